import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geoclick.inference.reports import gallery_selection
from geoclick.inference.reports.gallery_selection import RecordIndex
from tests.inference import evaluated


def record_index(ious, targets=None, alarms=(), questions=None):
    count = len(ious)
    there = np.ones(count, bool) if targets is None else np.array(targets, bool)
    asked = np.arange(count) if questions is None else np.array(questions)
    return RecordIndex(np.arange(count), np.array(ious, float), there, list(alarms), asked)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40), st.integers(1, 6))
def test_galleries_are_sorted_and_show_samples_with_a_target(rows, count):
    ious = [iou for iou, _ in rows]
    best, median, worst, _ = gallery_selection.select(
        record_index(ious, [there for _, there in rows]), count
    ).values()
    with_target = [i for i, (_, there) in enumerate(rows) if there]
    assert set(best) | set(median) | set(worst) <= set(with_target)
    assert len(best) == len(median) == len(worst) == min(count, len(with_target))
    if with_target:
        assert ious[best[0]] == max(ious[i] for i in with_target)
        assert ious[worst[0]] == min(ious[i] for i in with_target)
        assert ious[best[-1]] >= ious[median[0]] >= ious[worst[-1]] or len(with_target) < 3 * count


def test_the_median_gallery_is_the_middle():
    groups = gallery_selection.select(record_index([i / 10 for i in range(11)]), 3)
    assert groups["Best"] == [10, 9, 8]
    assert groups["Median"] == [6, 5, 4]
    assert groups["Worst"] == [0, 1, 2]


def test_a_gallery_shows_one_record_of_the_same_image_and_query():
    ious = [0.9, 0.8, 0.7, 0.6]
    groups = gallery_selection.select(record_index(ious, questions=[5, 5, 6, 6], alarms=[0, 1, 2]), 3)
    assert groups["Best"] == [0, 2]
    assert groups["Worst"] == [3, 1]
    assert groups["False alarms (a mask, but no target)"] == [0, 2]


def test_the_index_holds_the_numbers_and_offsets_of_the_records(tmp_path):
    empty, square = np.zeros(evaluated.SIZE, bool), evaluated.square(8, 8, 16)
    records = [
        evaluated.record("a", square, square, text="Größe über alles"),
        evaluated.record("b", empty, square),
        evaluated.record("c", square, empty),
        evaluated.record("d", empty, empty),
        evaluated.record("e", empty, square),
    ]
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    found = gallery_selection.index_records(path, 1)
    assert found.ious.tolist() == [1, 0, 0, 1, 0]
    assert found.targets.tolist() == [True, False, True, False, False]
    assert found.false_alarms == [1]
    assert gallery_selection.index_records(path, 5).false_alarms == [1, 4]
    assert list(gallery_selection.read_at(path, found.offsets, [4, 0, 1])) == [
        records[4],
        records[0],
        records[1],
    ]
