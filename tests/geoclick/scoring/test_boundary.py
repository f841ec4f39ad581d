import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geoclick.scoring import boundary, metrics

sizes = st.tuples(st.integers(1, 40), st.integers(1, 120))
fields = sizes.flatmap(lambda size: st.tuples(*[arrays(np.uint8, size, elements=st.integers(0, 9))] * 3))


def masks_of(values, coarse):
    """Two masks and the valid pixels, in blocks of `coarse` pixels so that the masks are wider than their bands."""
    a, b, valid = (np.kron(value, np.ones((coarse, coarse), np.uint8)) for value in values)
    return a > 4, b > 3, valid > 0


def reference_band(mask, valid, steps):
    """The band by repeated erosions of one pixel; a pixel stays inside if its neighbors are inside or ignored."""
    inside = np.pad(mask | ~valid, 1)
    for _ in range(steps):
        around = [np.roll(np.roll(inside, dy, 0), dx, 1) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        inside = np.logical_and.reduce(around)
        # Beyond the image is outside; np.roll wraps around.
        inside[[0, -1]] = inside[:, [0, -1]] = False
    return mask & valid & ~inside[1:-1, 1:-1]


@settings(deadline=None)
@given(fields, st.sampled_from([1, 2, 7]), st.booleans())
def test_the_band_equals_repeated_erosion(values, coarse, ignoring):
    a, b, valid = masks_of(values, coarse)
    if not ignoring:
        valid = np.ones_like(valid)
    steps = max(1, round(0.02 * np.hypot(*a.shape)))
    first, second = reference_band(a, valid, steps), reference_band(b, valid, steps)
    expected = (first & second).sum(), (first | second).sum()
    assert boundary.overlap(a & valid, b & valid, valid if ignoring else None) == expected


@given(fields)
def test_ignored_pixels_do_not_change_the_result(values):
    a, b, valid = masks_of(values, 3)

    def compared(prediction, target, valid=valid):
        return dataclasses.replace(metrics.compare(prediction, target, valid=valid), answered=True)

    assert compared(a, b) == compared(a | ~valid, b) == compared(a, b & valid) == compared(b, a)
    assert compared(a, b, np.ones_like(valid)) == compared(a, b, None)


def test_the_border_of_the_image_is_an_outline():
    full = np.ones((100, 100), bool)
    reach = boundary.depth(full.shape)
    assert reach == 3
    assert boundary.overlap(full, full) == (100**2 - 94**2, 100**2 - 94**2)


def test_an_ignored_margin_adds_and_hides_no_outline():
    """A class that continues under ignored pixels has no border there; one that ends behind a thin line has."""
    valid = np.ones((100, 100), bool)
    valid[:, 60:] = False
    left = np.zeros_like(valid)
    left[10:90, 10:60] = True
    inside = np.zeros_like(valid)
    inside[13:87, 13:60] = True
    assert boundary.overlap(left, left, valid)[0] == (left & ~inside).sum()
    valid[:, 62:] = True
    inside[:, 59:] = False
    assert boundary.overlap(left, left, valid)[0] == (left & ~inside).sum()


def test_shifting_a_large_square_changes_boundary_iou_more_than_iou():
    a = np.zeros((800, 800), bool)
    a[100:700, 100:700] = True
    b = np.roll(a, 12, axis=1)
    inner, outer = boundary.overlap(a, b)
    assert (a & b).sum() / (a | b).sum() > 0.95
    assert inner / outer < 0.7


@pytest.mark.parametrize(("size", "pixels"), [((800, 800), 23), ((10, 10), 1), ((1, 1), 1), ((480, 480), 14)])
def test_the_band_is_two_percent_of_the_diagonal(size, pixels):
    assert boundary.depth(size) == pixels


def test_empty_masks_have_no_outline():
    empty, dot = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    dot[0, 0] = True
    assert boundary.overlap(empty, empty) == (0, 0)
    assert boundary.overlap(empty, dot) == (0, 1)
