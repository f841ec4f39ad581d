"""Rows whose image shows the mask so far."""

from collections import Counter

import numpy as np
import pytest

from geoclick import chat_rows, masks, store
from geoclick.data_synthesis.run import run
from geoclick.data_synthesis.shards import shown_masks
from geoclick.segmenters.clicking import replay
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from tests.data_synthesis.pointing_student import PointingStudent, three_places
from tests.data_synthesis.test_run import make_root, settings


@pytest.fixture
def rows(tmp_path):
    """Of the same job, without and with masks."""
    root, options = make_root(tmp_path / "data"), {"policy": "on-policy", "adapter": "a", "own_clicks": "all"}
    for name, show in (("plain", False), ("shown", True)):
        student = PointingStudent(three_places)
        run(settings(root, tmp_path / name, show_masks=show, **options), DiscSegmenter(), student)
    return list(store.read(tmp_path / "plain")), list(store.read(tmp_path / "shown"))


def test_each_click_after_the_models_own_is_a_row_and_so_is_the_end(rows):
    plain, shown = rows
    assert len({row.sample_id for row in shown}) == len(shown)
    expected = [
        (f"{row.sample_id}{shown_masks.STEP}{count}", count, row.clicks[: count + 1])
        for row in plain
        if row.given
        for count in range(row.given, len(row.clicks) + 1)
    ]
    assert [(row.sample_id, row.given, row.clicks) for row in shown if row.given] == expected
    assert [row for row in shown if not row.given] == [
        row if row.given else store.Row(**vars(row) | {"policy": shown[0].policy})
        for row in plain
        if not row.given
    ]
    assert {row.policy for row in shown} == {"on-policy-all+show-masks+centre+multimask-first+feedback"}


def test_the_mask_is_that_of_the_clicks_before(rows):
    segmenter = DiscSegmenter()
    for row in rows[1]:
        if row.given:
            (embedding,) = segmenter.embed([np.zeros((row.height, row.width, 3), np.uint8)])
            (after,) = replay(segmenter, [embedding], [row.clicks[: row.given]])
            assert (masks.decode_rle(row.shown) == after[-1]).all()
        else:
            assert row.shown is None


def test_parts_are_cut_with_the_clicks():
    row = store.Row(
        **{"sample_id": "s", "dataset": "d", "split": "s", "task": "referring", "image": "i", "query": "q"},
        **{"width": 4, "height": 3, "mask": masks.encode_rle(np.ones((3, 4), bool)), "segmenter": "disc"},
        **{"segmenter_sha256": "", "policy": "p", "seed": 0, "given": 1, "parts": (2, 1)},
        clicks=tuple(store.Click(x, 0) for x in range(3)),
        ious=(0.1, 0.2, 0.3),
    )
    filled = [np.arange(12).reshape(3, 4) < n for n in range(5)]
    steps = shown_masks.steps(row, [filled[1:3], [~filled[4]]])
    assert [one.parts for one in steps] == [(2,), (2, 1), (2, 1)]
    assert [one.given for one in steps] == [1, 2, 3]
    assert [masks.area(one.shown) for one in steps] == [1, 2, 10]


def test_an_answer_is_one_more_click_whatever_its_iou(rows):
    usable = list(chat_rows.usable(rows[1], max_clicks=6, min_iou=0, left_out=Counter()))
    for one in usable:
        if one.given:
            assert len(one.clicks) - one.given in (0, 1)
            assert one.clicks == one.row.clicks
