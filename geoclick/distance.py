"""Exact Euclidean distance transform, with everything outside the image counted as zero."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from geoclick.masks import bounding_box

GLANCE = 8
"""Steps of `squared_distances` between two looks, each a wait for the device, at whether all is done."""


def _transform(mask: np.ndarray) -> np.ndarray:
    """The transform of one map, bool [H, W] -> float64 [H, W]."""
    distance = np.zeros(mask.shape)
    box = bounding_box(mask)
    if box is None:
        return distance
    # The ring of zeros around the bounding box is nearer to every pixel inside than any zero beyond it,
    # so the crop is exact, and small objects on large tiles cost what they cover.
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


def deepest_pixel(mask: np.ndarray) -> tuple[int, int] | None:
    """The pixel (x, y) of a mask, bool [H, W], farthest from its outside; None if it is empty.

    Of equal ones the first in row-major order.
    """
    box = bounding_box(mask)
    if box is None:
        return None
    distance = distance_transform(mask[box])
    row, column = np.unravel_index(distance.argmax(), distance.shape)
    return int(column) + box[1].start, int(row) + box[0].start


def squared_distances(maps: Tensor) -> Tensor:
    """The squared distance of every true pixel to the nearest false one, of a batch on any device.

    Columns first, then every row against its neighbors at one step to either side, at two, and so on until no
    larger step can matter: the work is that of the largest distance in the batch. On a GPU that is quick, since no
    map leaves it; on a CPU `distance_transform` is quicker.

    Args:
        maps: bool [N, H, W].

    Returns:
        int32 [N, H, W], 0 where a map is false; pixels beyond the border are false.
    """
    height, width = maps.shape[1:]
    rows = torch.arange(height, dtype=torch.int32, device=maps.device)[:, None]
    above = torch.where(maps, -1, rows).cummax(1).values
    below = torch.where(maps, height, rows).flip(1).cummin(1).values.flip(1)
    columns = torch.minimum(rows - above, below - rows).square()
    x = torch.arange(width, dtype=torch.int32, device=maps.device)
    squares = torch.minimum(columns, torch.minimum(x + 1, width - x).square())
    for step in range(1, width if len(maps) else 0):
        if step % GLANCE == 1 and step * step >= int(squares.max()):
            break
        right, left = squares[..., step:], squares[..., :-step]
        torch.minimum(right, columns[..., :-step] + step * step, out=right)
        torch.minimum(left, columns[..., step:] + step * step, out=left)
    return squares
