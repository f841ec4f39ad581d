"""Exact Euclidean distance transform, with everything outside the image counted as zero."""

import numpy as np
from scipy import ndimage


def _transform(mask: np.ndarray) -> np.ndarray:
    """The transform of one map, bool [H, W] -> float64 [H, W]."""
    distance = np.zeros(mask.shape)
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return distance
    columns = np.flatnonzero(mask.any(axis=0))
    # The ring of zeros around the bounding box is nearer to every pixel inside than any zero beyond it,
    # so the crop is exact, and small objects on large tiles cost what they cover.
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    distance[box] = ndimage.distance_transform_edt(np.pad(mask[box], 1))[1:-1, 1:-1]
    return distance


def distance_transform(mask: np.ndarray) -> np.ndarray:
    """The distance of every true pixel to the nearest false one; pixels beyond the border are false.

    Distances are square roots, in double precision, of whole numbers, so equal distances compare as equal.

    Args:
        mask: bool [H, W], or a batch [N, H, W] whose maps do not touch each other.

    Returns:
        float64 of the same shape, in pixels; 0 where the mask is false, at least 1 where it is true.
    """
    if mask.ndim == 2:
        return _transform(mask)
    return np.stack([_transform(one) for one in mask]) if len(mask) else np.zeros(mask.shape)
