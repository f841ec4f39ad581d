"""The benchmark of proposals compares equal masks."""

import json

import pytest

from benchmarks import proposals


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proposals")
    arguments = [
        "--output",
        folder,
        "--side",
        "96",
        "--images",
        "1",
        "--points",
        "3",
        "--predicted-iou",
        "0.3",
    ]
    arguments += ["--stability", "0.3", "--threads", "1", "--device", "cpu", "--no-memory"]
    assert proposals.main([*map(str, arguments)]) == 0
    return json.loads((folder / "proposals.json").read_text())


def test_both_make_the_same_masks(result):
    assert result["masks"]["generator"] == result["masks"]["geoclick"] > 0
    assert result["worst_partner"] >= 0.99


def test_the_ratios_are_those_of_the_times(result):
    for ratio, times in (("ratio", "seconds"), ("cpu_ratio", "cpu_seconds")):
        assert result[ratio] == pytest.approx(
            result[times]["generator"] / result[times]["geoclick"], rel=0.05
        )


def test_a_mask_without_a_partner_is_noticed():
    ones, other = ({"size": [2, 2], "counts": counts} for counts in ("04", "13"))
    assert proposals.worst_partner([(ones, 1.0)], [(other, 1.0)]) == 0.75
    assert proposals.worst_partner([(ones, 1.0)], []) == 0
    assert proposals.worst_partner([], [(other, 1.0)]) == 1
