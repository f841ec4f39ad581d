import json

import numpy as np
import pytest

from geoclick.errors import GeoClickError
from geoclick.inference.reports import record_pairs
from tests.inference import evaluated

EMPTY = np.zeros(evaluated.SIZE, bool)
TARGET = evaluated.square(8, 8, 16)


def run(folder, sides, **fields):
    """A run whose masks cover squares of these sides of the target's 16."""
    records = [
        evaluated.record(f"s{i}", TARGET, evaluated.square(8, 8, side), **fields)
        for i, side in enumerate(sides)
    ]
    return evaluated.write(folder, records)


def read_pairs(a, b, count=3, change=record_pairs.iou_gain):
    return record_pairs.read_pairs(a, b, count=count, change=change)


def test_the_numbers_of_both_runs_are_read(tmp_path):
    a, b = run(tmp_path / "a", [16, 8, 4]), run(tmp_path / "b", [16, 16, 2])
    pairs = read_pairs(a, b)
    one, other = pairs.arrays()
    assert one.tolist() == [[1, 256, 256, 0.5], [0.25, 64, 256, 0.5], [1 / 16, 16, 256, 0.5]]
    assert other[:, 0].tolist() == [1, 1, 1 / 64]
    assert pairs.groups["by_task"]["referring"].tolist() == [0, 1, 2]
    assert pairs.groups["by_size"]["small"].tolist() == [0, 1, 2]
    assert pairs.groups["by_query_kind"]["plain"].tolist() == [0, 1, 2]
    assert "by_category" not in pairs.groups
    assert pairs.images.tolist() == [0, 0, 0]


def test_only_the_records_with_the_largest_changes_are_stored(tmp_path):
    a, b = run(tmp_path / "a", [8] * 9), run(tmp_path / "b", [8, 12, 16, 2, 1, 8, 10, 12, 4])
    pairs = read_pairs(a, b, count=2)
    assert [one["sample_id"] for _, _, one, _ in sorted(pairs.gained, reverse=True)] == ["s2", "s1"]
    assert [other["sample_id"] for _, _, _, other in sorted(pairs.lost, reverse=True)] == ["s4", "s3"]
    assert sorted(pairs.gained)[-1][0] == 0.75
    assert read_pairs(a, b, count=0).gained == []
    assert len(read_pairs(a, b, count=9).gained) == 4


def test_error_reduction_counts_pixels():
    small, large = evaluated.square(0, 0, 1), evaluated.square(0, 0, 40)
    found = record_pairs.error_reduction(
        evaluated.record("a", small, EMPTY), evaluated.record("a", small, small)
    )
    more = record_pairs.error_reduction(
        evaluated.record("a", large, evaluated.square(0, 0, 36)), evaluated.record("a", large, large)
    )
    assert found == 1 / (48 * 64)
    assert more == (40**2 - 36**2) / (48 * 64)


def broken(folder, **fields):
    """Change the second record of a run."""
    path = folder / "predictions.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | fields)
    path.write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sample_id": "x"}, "differ in the sample_id of their samples, first at s1 and x"),
        ({"query": "a"}, "differ in the query of their samples, first at s1"),
        ({"target": evaluated.record("", EMPTY, EMPTY)["target"]}, "differ in the target"),
        ({"valid": {"size": [48, 64], "counts": "0"}}, "differ in the valid"),
    ],
)
def test_different_samples_are_one_error_sentence(tmp_path, fields, words):
    a, b = run(tmp_path / "a", [8, 8]), broken(run(tmp_path / "b", [8, 8]), **fields)
    with pytest.raises(GeoClickError, match=words) as caught:
        read_pairs(a, b)
    assert "evaluate both on the same samples" in str(caught.value)


def test_different_numbers_of_samples_are_errors(tmp_path):
    a, b = run(tmp_path / "a", [8, 8]), run(tmp_path / "b", [8, 8, 8])
    with pytest.raises(GeoClickError, match=r"a holds fewer samples than .*b"):
        read_pairs(a, b)
    with pytest.raises(GeoClickError, match=r"a holds fewer samples than .*b"):
        read_pairs(b, a)


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", '{"sample_id": "s1"}', '"\\ud800"', "[" * 100_000, '{"iou": 1e999}', "\x00"]
)
def test_files_of_other_kinds_are_one_error_sentence(tmp_path, line):
    a, b = run(tmp_path / "a", [8, 8]), run(tmp_path / "b", [8, 8])
    for folder in (a, b):
        path = folder / "predictions.jsonl"
        path.write_text(path.read_text().splitlines()[0] + "\n" + line + "\n")
    with pytest.raises(GeoClickError, match="evaluate again") as caught:
        read_pairs(a, b)
    assert "\n" not in str(caught.value)


def test_missing_and_empty_files_are_errors(tmp_path):
    a = run(tmp_path / "a", [8])
    with pytest.raises(GeoClickError, match="holds no metrics"):
        record_pairs.read_summary(tmp_path)
    with pytest.raises(GeoClickError, match="holds no predictions"):
        read_pairs(a, tmp_path)
    (a / "predictions.jsonl").write_text("")
    with pytest.raises(GeoClickError, match="hold no samples"):
        read_pairs(a, a)
    for content in ("", "[]", "{}", '{"scores": 1, "protocol": {}}', "[" * 100_000):
        (a / "metrics.json").write_text(content)
        with pytest.raises(GeoClickError, match="was not written by 'geoclick evaluate'") as caught:
            record_pairs.read_summary(a)
        assert "\n" not in str(caught.value)
