import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from geoclick.clicks import Click
from geoclick.data_synthesis.quality import measures
from geoclick.data_synthesis.quality.measures import CODECS, nearest_pixel, sample_of
from geoclick.errors import GeoClickError
from tests.data_synthesis.click_rows import count_clicks, make_row, measure, random_rows

masks_of_any_shape = arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def depth_of(mask):
    """The distance transform of a whole image by scipy, beyond the border being no target."""
    return ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]


def height_of(mask):
    """For pixels outside the target their distance to it, by scipy."""
    return ndimage.distance_transform_edt(~mask)


@settings(max_examples=60)
@given(masks_of_any_shape, st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=6))
def test_positions_and_distances_refer_to_the_complete_image(mask, places):
    assume(mask.any())
    height, width = mask.shape
    clicks = [Click(x * width - 0.5, y * height - 0.5) for x, y in places]
    measures = measure([make_row(mask, clicks, [0.5] * len(clicks))])
    assert measures.rows["area"][0] == mask.sum()
    assert measures.rows["radius"][0] == pytest.approx(depth_of(mask).max())
    top, left, bottom, right = measures.rows["box"][0]
    assert mask[top:bottom, left:right].sum() == mask.sum()
    assert mask[top].any()
    assert mask[bottom - 1].any()
    assert mask[:, left].any()
    assert mask[:, right - 1].any()
    for click, (x, y), found in zip(clicks, places, measures.clicks, strict=True):
        row, column = nearest_pixel(click, mask.shape)
        assert abs(row - click.y) <= 0.5
        assert abs(column - click.x) <= 0.5
        expected = depth_of(mask)[row, column] or -height_of(mask)[row, column]
        assert found["distance"] == pytest.approx(expected, rel=1e-6)
        assert (found["x"], found["y"]) == pytest.approx((x, y), abs=1e-6)


def test_all_rows_and_clicks_are_measured_in_order():
    rows = random_rows(0, 600)
    measures = measure(iter(rows))
    assert measures.rows["clicks"].tolist() == [len(row.clicks) for row in rows]
    assert measures.rows["final_iou"].tolist() == [(0, *row.ious)[-1] for row in rows]
    assert measures.rows["best_iou"].tolist() == [max(row.ious, default=0) for row in rows]
    assert measures.targets.tolist() == [row.task != "no_target" for row in rows]
    assert measures.clicks["iou"].tolist() == [iou for row in rows for iou in row.ious]
    assert measures.clicks["positive"].tolist() == [c.positive for row in rows for c in row.clicks]
    assert measures.clicks["row"].tolist() == [i for i, row in enumerate(rows) for _ in row.clicks]
    assert measures.clicks["position"].tolist() == [k for row in rows for k, _ in enumerate(row.clicks)]
    assert [measures.names["category"][c] for c in measures.rows["category"]] == [r.category for r in rows]
    assert measures.rows["tokens"][:, 0].tolist() == [10 * len(row.clicks) for row in rows]
    assert measures.rows["tokens"].shape == (600, len(CODECS))


def test_hashes_are_equal_for_equal_values():
    mask = np.ones((3, 3), bool)
    row = make_row(mask)
    changes = {"image": "b.png", "query": "another", "sample_id": "b", "mask": make_row(mask[:2]).mask}
    for key, value in changes.items():
        other = dataclasses.replace(row, **{key: value}, **({"height": 2} if key == "mask" else {}))
        pair = measure([row, other]).rows
        column = "sample" if key == "sample_id" else key
        for name in ("sample", "image", "query", "mask"):
            assert (pair[name][0] == pair[name][1]) == (name != column)


def test_an_empty_mask_has_an_empty_box_and_no_rows_no_measures():
    assert measure([make_row(np.zeros((4, 5), bool))]).rows["box"].tolist() == [[0, 0, 0, 0]]
    measures = measure([])
    assert len(measures.rows) == len(measures.clicks) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ious": (0.5,)}, "1 clicks|0 clicks but 1 IoUs"),
        ({"clicks": (Click(1, 1),), "ious": (float("nan"),)}, "IoU outside 0 to 1"),
        ({"clicks": (Click(1, 1),), "ious": (1.5,)}, "IoU outside 0 to 1"),
        ({"clicks": (Click(3, 1),), "ious": (0.5,)}, "click outside the image"),
        ({"clicks": (Click(1, float("nan")),), "ious": (0.5,)}, "click outside the image"),
        ({"width": 4}, "is 4x3 but its mask 3x3"),
        ({"mask": {"size": [3, 3], "counts": "zz"}}, "broken mask"),
        (
            {
                "mask": make_row(np.zeros((3, 3), bool)).mask,
                "clicks": (Click(1, 1),),
                "ious": (0.5,),
            },
            "clicks but an empty mask",
        ),
    ],
)
def test_inconsistent_rows_are_errors(changes, words):
    row = dataclasses.replace(make_row(np.ones((3, 3), bool), sample_id="bad-one"), **changes)
    with pytest.raises(GeoClickError, match=words) as error:
        measure([row])
    assert "'bad-one'" in str(error.value)


@pytest.mark.parametrize(
    ("row_id", "sequences", "sample"),
    [
        ("a#2", 3, "a"),
        ("a#3", 3, "a"),
        ("a#12", 12, "a"),
        ("a#4", 3, "a#4"),
        ("a#2", 1, "a#2"),
        ("a#1", 3, "a#1"),
        ("a#02", 3, "a#02"),
        ("a#2#3", 3, "a#2"),
        ("#2", 3, "#2"),
        ("a#" + "9" * 5000, 3, "a#" + "9" * 5000),
    ],
)
def test_later_sequences_belong_to_their_sample(row_id, sequences, sample):
    assert sample_of(row_id, sequences) == sample


@pytest.mark.parametrize("sequences", [1, 2])
def test_sequences_of_one_sample_have_the_same_hash(sequences):
    rows = [make_row(np.ones((3, 3), bool), sample_id=name) for name in ("a", "a#2", "b")]
    samples = measures.measure(rows, count_clicks, lambda: None, sequences=sequences).rows["sample"]
    assert len(set(samples.tolist())) == (2 if sequences == 2 else 3)
