"""Both methods of the synthesis benchmark make the same clicks, so that their times are comparable."""

import json

import pytest

from benchmarks import synthesis
from geoclick.scenes import run as scenes


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    assert scenes.main([str(folder / "scenes"), "--count", "9", "--split", "train"]) == 0
    arguments = ["--root", folder / "scenes", "--output", folder / "out", "--images", "2", "--clicks", "3"]
    assert synthesis.main([*map(str, arguments), "--threads", "1", "--device", "cpu"]) == 0
    return json.loads((folder / "out" / "speed.json").read_text())


def test_both_click_on_the_same_masks_by_the_same_rule(result):
    assert (result["images"], result["masks"]) == (2, 4)
    assert result["same_first_click"] == 1.0
    assert result["mean_iou"]["loop"] == pytest.approx(result["mean_iou"]["geoclick"], abs=0.02)


def test_the_ratio_is_that_of_the_times(result):
    seconds = result["seconds"]
    assert result["ratio"] == pytest.approx(seconds["loop"] / seconds["geoclick"], rel=0.01)
    assert 0 < seconds["encoder"] < seconds["loop"]
