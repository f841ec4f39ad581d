import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from geoclick import masks
from geoclick.errors import GeoClickError

planes = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(planes)
def test_rle_round_trip_and_area(mask):
    rle = json.loads(json.dumps(masks.encode_rle(mask)))
    assert np.array_equal(masks.decode_rle(rle), mask)
    assert masks.area(rle) == mask.sum()


@given(planes)
def test_rle_is_cocos_in_both_directions(mask):
    theirs = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert masks.encode_rle(mask)["counts"].encode() == theirs["counts"]
    assert np.array_equal(masks.decode_rle(theirs), coco.decode(theirs).astype(bool))


@given(planes)
def test_runs_are_encoded_as_the_mask(mask):
    rle = masks.encode_rle(mask)
    size, runs = masks.decode_runs(rle)
    assert masks.encode_runs(size, runs) == rle


@given(st.lists(st.integers(1, 2**29), min_size=1, max_size=12), st.booleans())
def test_long_runs_are_encoded_as_by_coco(lengths, first):
    runs = ([0] if first else []) + lengths
    size = (1, sum(runs))
    theirs = coco.frPyObjects({"size": list(size), "counts": runs}, *size)
    assert masks.encode_runs(size, np.array(runs))["counts"].encode() == theirs["counts"]


def test_long_runs():
    mask = np.zeros((3000, 4000), bool)
    mask[10:2900, 3:3999] = True
    rle = masks.encode_rle(mask)
    assert np.array_equal(masks.decode_rle(rle), mask)


def test_uncompressed_counts_are_column_major():
    mask = masks.decode_rle({"size": [2, 3], "counts": [1, 2, 3]})
    assert mask.tolist() == [[False, True, False], [True, False, False]]


def test_several_planes_are_merged():
    a, b = np.zeros((2, 5, 4), bool)
    a[0, 0], b[4, 3] = True, True
    merged = masks.decode_rle([masks.encode_rle(a), masks.encode_rle(b)])
    assert np.array_equal(merged, a | b)
    assert [masks.area(masks.encode_rle(mask)) for mask in (a, merged)] == [1, 2]


@given(
    st.fixed_dictionaries(
        {
            "size": st.one_of(
                st.none(), st.text(), st.lists(st.integers(-(2**70), 2**70) | st.floats(), max_size=3)
            ),
            "counts": st.text() | st.binary() | st.none() | st.lists(st.integers(-(2**70), 2**70)),
        }
    )
)
def test_any_broken_rle_is_one_error(rle):
    try:
        mask = masks.decode_rle(rle)
    except GeoClickError:
        return
    assert mask.shape == tuple(int(side) for side in rle["size"])


@given(st.text(alphabet=[chr(c) for c in range(48, 112)], max_size=30))
def test_counts_that_do_not_fill_the_size_are_refused(counts):
    try:
        mask = masks.decode_rle({"size": [7, 9], "counts": counts})
    except GeoClickError:
        return
    assert mask.shape == (7, 9)
    assert masks.area({"size": [7, 9], "counts": counts}) == mask.sum()


@pytest.mark.parametrize(
    "rle",
    [{}, {"size": [2, 2]}, [], "text", {"size": [2, 2], "counts": [1, 2]}, {"size": [2], "counts": "04"}],
)
def test_named_faults(rle):
    with pytest.raises(GeoClickError):
        masks.decode_rle(rle)


def test_planes_of_other_sizes_are_refused():
    with pytest.raises(GeoClickError, match="same size"):
        masks.decode_rle([masks.encode_rle(np.ones((2, 2), bool)), masks.encode_rle(np.ones((2, 3), bool))])


def test_encode_refuses_a_batch():
    with pytest.raises(GeoClickError, match="two axes"):
        masks.encode_rle(np.zeros((1, 2, 2), bool))


@given(planes, st.data())
def test_iou_is_symmetric_and_bounded(a, data):
    b = data.draw(arrays(bool, a.shape))
    value = masks.iou(a, b)
    assert value == masks.iou(b, a)
    assert 0 <= value <= 1
    assert masks.iou(a, a) == 1
    assert (value == 1) == np.array_equal(a, b)


def test_iou_edge_cases():
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    half = full.copy()
    half[:2] = False
    assert masks.iou(empty, empty) == 1
    assert masks.iou(empty, full) == 0
    assert masks.iou(half, full) == 0.5
    assert masks.iou(half, full, valid=half) == 1
    assert masks.iou(half, full, valid=empty) == 1
    with pytest.raises(GeoClickError):
        masks.iou(full, full[:2])


def test_polygons_enclose_the_mask_half_way_between_pixels():
    mask = np.zeros((6, 8), bool)
    mask[2:4, 0:5] = True
    (outline,) = masks.polygons(mask)
    assert np.array_equal(outline[0], outline[-1])
    assert outline.min(0).tolist() == [-0.5, 1.5]
    assert outline.max(0).tolist() == [4.5, 3.5]
    mask[:] = True
    mask[3, 3] = False
    assert len(masks.polygons(mask)) == 2


@given(st.data(), st.integers(1, 6), st.integers(1, 6))
def test_common_pixels_are_counted_without_decoding(data, height, width):
    pair = [data.draw(arrays(bool, (height, width))) for _ in range(2)]
    one, other = (masks.encode_rle(mask) for mask in pair)
    assert masks.common_area(one, other) == np.count_nonzero(pair[0] & pair[1])


def test_common_pixels_need_one_size():
    one, other = (masks.encode_rle(np.zeros((2, side), bool)) for side in (2, 3))
    with pytest.raises(GeoClickError, match="give one size"):
        masks.common_area(one, other)
