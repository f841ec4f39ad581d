"""The ablation of clicks, on a few generated scenes."""

import json

import pytest

from benchmarks import click_ablation
from geoclick.scenes import run as scenes


@pytest.fixture(scope="module")
def means(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    assert scenes.main([str(folder / "scenes"), "--count", "9", "--split", "test"]) == 0
    arguments = [
        "--dataset",
        "folder",
        "--root",
        folder / "scenes",
        "--output",
        folder / "out",
        "--clicks",
        "3",
    ]
    assert click_ablation.main([*map(str, arguments)]) == 0
    return json.loads((folder / "out" / "ablation.json").read_text())


def test_only_samples_with_a_target_count(means):
    assert means["samples"] == 6


def test_the_first_click_does_not_depend_on_signs_and_decoding(means):
    assert len(means["miou"]) == 4
    assert len({row[0] for row in means["miou"].values()}) == 1
    assert all(len(row) == 3 for row in means["miou"].values())


def test_later_clicks_depend_on_signs_and_decoding(means):
    assert len({tuple(row) for row in means["miou"].values()}) == 4
