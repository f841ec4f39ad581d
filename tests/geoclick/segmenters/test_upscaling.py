"""Masks at the size of the image are those of segment-anything, on any sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoclick.segmenters import upscaling
from geoclick.segmenters.sam import build
from tests import tiny

SIDE, LOW = 64, 16


@pytest.fixture(scope="module")
def sam():
    return build(tiny.SAM)


def axes(input_size, size):
    return (
        upscaling.axis(LOW, SIDE, inside, pixels, torch.device("cpu"))
        for inside, pixels in zip(input_size, size, strict=True)
    )


def blobs(seed):
    """Logits with some positive places among negative ones; the last map has none."""
    random = torch.Generator().manual_seed(seed)
    shift = torch.tensor([-2.0, -1.0, 0.0, 2.0, -9.0])[:, None, None]
    return torch.randn(5, LOW, LOW, generator=random) + shift


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.tuples(*[st.integers(1, SIDE)] * 2), st.tuples(*[st.integers(1, 150)] * 2))
def test_masks_equal_those_of_segment_anything(sam, seed, input_size, size):
    assert sam.image_encoder.img_size == SIDE
    logits = blobs(seed)
    published = sam.postprocess_masks(logits[:, None], input_size, size)[:, 0].numpy()
    mine = upscaling.masks(logits, *axes(input_size, size)).numpy()
    sure = np.abs(published) > 1e-4
    np.testing.assert_array_equal(mine[sure], published[sure] > 0)


def test_without_a_positive_logit_the_mask_is_empty():
    assert not upscaling.masks(-torch.ones(2, LOW, LOW), *axes((48, 64), (30, 41))).any()


def test_a_single_positive_logit_affects_only_the_pixels_around_it():
    logits = -torch.ones(1, LOW, LOW)
    logits[0, 8, 4] = 9.0
    (mask,) = upscaling.masks(logits, *axes((SIDE, SIDE), (SIDE, SIDE))).numpy()
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (30, 37, 14, 21)
