"""Boundary IoU: the IoU of the bands along the outlines of two masks, which shows the errors of large masks.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021, arXiv 2103.16562. The
band of a mask is what an erosion removes: the pixels with a pixel outside the mask within `depth` rows and columns.
Beyond the border of the image is outside. Ignored pixels are neither inside nor outside, so they make no outline.
"""

import math

import numpy as np

from geoclick.masks import bounding_box

DILATION = 0.02
"""Depth of the band as a share of the image's diagonal."""


def depth(size: tuple[int, int]) -> int:
    """The depth of the band in pixels for an image of (height, width); at least 1."""
    return max(1, round(DILATION * math.hypot(*size)))


def overlap(a: np.ndarray, b: np.ndarray, valid: np.ndarray | None = None) -> tuple[int, int]:
    """The pixels of intersection and union of the bands of two masks.

    Args:
        a: bool [H, W], false where pixels are ignored.
        b: the other, likewise.
        valid: bool [H, W], False where pixels are ignored; None counts all.
    """
    window = bounding_box(a | b)
    if window is None:
        return 0, 0
    ignored = None if valid is None else ~valid
    first, second = (_band(mask, ignored, window, depth(mask.shape)) for mask in (a, b))
    intersection = int(np.count_nonzero(first & second))
    return intersection, int(np.count_nonzero(first)) + int(np.count_nonzero(second)) - intersection


def _band(
    mask: np.ndarray, ignored: np.ndarray | None, window: tuple[slice, slice], reach: int
) -> np.ndarray:
    """The band of a mask inside a window that holds all of the mask; bool of the window's shape."""
    rows, columns = window
    height, width = rows.stop - rows.start, columns.stop - columns.start
    stride = width + 2 * reach
    # The window with a margin of `reach`, flat by rows, and padded at the end by as much as the erosion looks ahead.
    flat = np.zeros((height + 2 * reach) * stride + 2 * reach, bool)
    margin = flat[: -2 * reach].reshape(-1, stride)
    margin[reach:-reach, reach:-reach] = mask[window]
    if ignored is not None:
        top, left = max(0, rows.start - reach), max(0, columns.start - reach)
        near = ignored[top : rows.stop + reach, left : columns.stop + reach]
        top, left = top - rows.start + reach, left - columns.start + reach
        margin[top : top + near.shape[0], left : left + near.shape[1]] |= near
    inner = _all(_all(flat, 2 * reach + 1, stride), 2 * reach + 1, 1)
    return mask[window] & ~inner.reshape(height, stride)[:, :width]


def _all(flat: np.ndarray, count: int, stride: int) -> np.ndarray:
    """Whether an element and the `count` - 1 after it, `stride` apart, are all true, by windows of doubling length.

    Returns:
        bool, shorter by (`count` - 1) * `stride`.
    """
    length = 1
    while length < count:
        step = min(length, count - length)
        flat = flat[: -step * stride] & flat[step * stride :]
        length += step
    return flat
