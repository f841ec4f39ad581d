import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geoclick.inference.reports import gallery_selection
from geoclick.inference.reports.gallery_selection import Survey
from tests.inference import evaluated


def survey(ious, targets=None, alarms=()):
    count = len(ious)
    there = np.ones(count, bool) if targets is None else np.array(targets, bool)
    return Survey(np.arange(count), np.array(ious, float), there, list(alarms))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40), st.integers(1, 6))
def test_the_gallery_is_sorted_and_keeps_to_its_groups(rows, count):
    ious = [iou for iou, _ in rows]
    best, median, worst, _ = gallery_selection.choose(
        survey(ious, [there for _, there in rows]), count
    ).values()
    with_target = [i for i, (_, there) in enumerate(rows) if there]
    assert set(best) | set(median) | set(worst) <= set(with_target)
    assert len(best) == len(median) == len(worst) == min(count, len(with_target))
    if with_target:
        assert ious[best[0]] == max(ious[i] for i in with_target)
        assert ious[worst[0]] == min(ious[i] for i in with_target)
        assert ious[best[-1]] >= ious[median[0]] >= ious[worst[-1]] or len(with_target) < 3 * count


def test_the_median_group_is_the_middle():
    groups = gallery_selection.choose(survey([i / 10 for i in range(11)]), 3)
    assert groups["Best"] == [10, 9, 8]
    assert groups["Median"] == [6, 5, 4]
    assert groups["Worst"] == [0, 1, 2]


def test_one_pass_finds_what_the_records_say_and_where_they_are(tmp_path):
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
    found = gallery_selection.survey(path, 1)
    assert found.ious.tolist() == [1, 0, 0, 1, 0]
    assert found.targets.tolist() == [True, False, True, False, False]
    assert found.alarms == [1]
    assert gallery_selection.survey(path, 5).alarms == [1, 4]
    assert list(gallery_selection.pick(path, found.offsets, [4, 0, 1])) == [
        records[4],
        records[0],
        records[1],
    ]
