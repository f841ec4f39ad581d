"""Small holes and islands of a mask, removed by the rule of segment-anything's mask generator."""

import math

import numpy as np

from geoclick import masks

NEIGHBORS = np.ones((3, 3), bool)
"""Pixels that touch at a corner are connected."""


def without_small_regions(mask: np.ndarray, minimum: int) -> np.ndarray:
    """A mask without its holes of fewer than `minimum` pixels, then without its islands of fewer.

    If all islands are smaller, the largest remains. A hole is a connected part of the background, also at the border.

    Args:
        mask: bool [H, W].
        minimum: pixels.

    Returns:
        bool [H, W]; the same object if nothing has changed.
    """
    box = masks.bounding_box(mask) or (slice(0, 0), slice(0, 0))
    # Background that reaches further than this around the mask has `minimum` pixels in any case.
    margin = max(math.isqrt(minimum) + 1, math.ceil(minimum / min(mask.shape)))
    window = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in box)
    part = mask[window]
    cleaned = _islands(_holes(part, minimum), minimum)
    if cleaned is part:
        return mask
    result = np.zeros_like(mask)
    result[window] = cleaned
    return result


def _regions(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of each pixel's region, 0 outside, and the pixels of each region, 0 for number 0."""
    from scipy import ndimage

    numbers, count = ndimage.label(mask, NEIGHBORS)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    sizes[0] = 0
    return numbers, sizes


def _holes(mask: np.ndarray, minimum: int) -> np.ndarray:
    numbers, sizes = _regions(~mask)
    small = (sizes < minimum) & (sizes > 0)
    return mask | small[numbers] if small.any() else mask


def _islands(mask: np.ndarray, minimum: int) -> np.ndarray:
    numbers, sizes = _regions(mask)
    small = (sizes < minimum) & (sizes > 0)
    if not small.any():
        return mask
    large = sizes >= minimum
    if not large[1:].any():
        large[sizes.argmax()] = True
    large[0] = False
    return large[numbers]
