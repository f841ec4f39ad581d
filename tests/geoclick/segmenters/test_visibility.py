"""Targets that are too small for a segmenter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick import masks, segmenters
from geoclick.clicks import Click
from geoclick.segmenters import visibility
from geoclick.segmenters.architectures import mask_side
from geoclick.segmenters.base import Prompt


def square(side, size=(512, 1024)):
    mask = np.zeros(size, bool)
    mask[100 : 100 + side, 200 : 200 + side] = True
    return masks.encode_rle(mask)


def test_the_side_of_a_mask_is_that_of_the_model():
    segmenter = segmenters.load("embedded")
    embedding = segmenter.embed([np.zeros((20, 30, 3), np.uint8)])[0]
    decoded = segmenter.decode([embedding], [Prompt((Click(5, 5),))], multimask=False)[0]
    assert decoded.low_res.shape[1:] == (mask_side("embedded"),) * 2 == (128, 128)
    assert [mask_side(name) for name in ("sam_vit_b", "sam_vit_l", "sam_vit_h")] == [256] * 3


# 16 pixels of 256 along 1024 pixels: 16 x 16 pixels of the image.
@pytest.mark.parametrize(("side", "small"), [(1, True), (15, True), (16, False), (60, False)])
def test_the_limit_is_in_pixels_of_the_mask(side, small):
    assert visibility.is_too_small(square(side), 256) == small
    assert visibility.is_too_small(square(2 * side, (1024, 2048)), 256) == small


def test_many_small_parts_are_too_small_together():
    mask = np.zeros((1024, 1024), bool)
    mask[::40, ::40] = mask[1::40, 1::40] = True
    assert mask.sum() > 256
    assert visibility.is_too_small(masks.encode_rle(mask), 256)
    mask[500:520, 500:520] = True
    assert not visibility.is_too_small(masks.encode_rle(mask), 256)


@given(st.integers(0, 2**16 - 1), st.integers(1, 30))
def test_the_largest_part_decides(bits, side):
    from scipy import ndimage

    mask = np.array([bits >> i & 1 for i in range(16)], bool).reshape(4, 4)
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    largest = max((int((parts == n).sum()) for n in range(1, count + 1)), default=0)
    expected = 0 < largest < visibility.SMALLEST * (4 / side) ** 2
    assert visibility.is_too_small(masks.encode_rle(mask), side) == expected


def test_the_line_names_count_share_and_fix():
    result = visibility.count([square(4), square(40), square(0)], "sam_vit_b")
    assert (result["targets"], result["too_small"], result["share"]) == (2, 1, 0.5)
    assert visibility.text(result).startswith("1 of 2 targets (50.0 %) are too small")
    assert "--tile 512" in visibility.text(result)
    assert "--tile" not in visibility.text(visibility.count([square(1, (512, 512))], "sam_vit_b"))
    assert visibility.text(visibility.count([square(40)], "sam_vit_b")) == visibility.text(None) == ""
