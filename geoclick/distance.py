"""Exact Euclidean distance transform, with everything outside the image counted as zero."""

from typing import TYPE_CHECKING

import numpy as np

from geoclick.masks import bounding_box

if TYPE_CHECKING:
    from torch import Tensor

CHECK_EVERY = 8
"""Steps of `squared_distances` between two checks whether it is done; each check waits for the device."""


def distance_transform(mask: np.ndarray) -> np.ndarray:
    """The distance of every true pixel to the nearest false one; pixels outside the image are false.

    Distances are square roots, in double precision, of integers, so equal distances compare as equal.

    Args:
        mask: bool [H, W], or a batch [N, H, W] of independent maps.

    Returns:
        float64 of the same shape, in pixels; 0 where the mask is false, at least 1 where it is true.
    """
    if mask.ndim == 2:
        return _transform(mask)
    return np.stack([_transform(one) for one in mask]) if len(mask) else np.zeros(mask.shape)


def _transform(mask: np.ndarray) -> np.ndarray:
    """The transform of one map, bool [H, W] -> float64 [H, W]."""
    from scipy import ndimage

    distance = np.zeros(mask.shape)
    box = bounding_box(mask)
    if box is None:
        return distance
    # The pixels just outside the bounding box are nearer to every pixel inside it than any farther false pixel.
    # So the crop is exact, and the cost of a small object on a large tile is that of its box.
    distance[box] = ndimage.distance_transform_edt(np.pad(mask[box], 1))[1:-1, 1:-1]
    return distance


def deepest_pixel(mask: np.ndarray) -> tuple[int, int] | None:
    """The pixel (x, y) of a mask, bool [H, W], that is farthest from its outside; None if the mask is empty.

    Of several such pixels, the first in row-major order.
    """
    box = bounding_box(mask)
    if box is None:
        return None
    distance = distance_transform(mask[box])
    row, column = np.unravel_index(distance.argmax(), distance.shape)
    return int(column) + box[1].start, int(row) + box[0].start


def squared_distances(maps: "Tensor") -> "Tensor":
    """The squared distance of every true pixel to the nearest false one, of a batch on any device.

    First along columns; then every pixel is compared with its neighbors in the row at distance 1, 2, ... until no
    larger step can matter, so the time depends on the largest distance in the batch. On a GPU this is fast, because
    the maps stay there; on a CPU `distance_transform` is faster.

    Args:
        maps: bool [N, H, W].

    Returns:
        int32 [N, H, W], 0 where a map is false; pixels outside the image are false.
    """
    import torch

    height, width = maps.shape[1:]
    rows = torch.arange(height, dtype=torch.int32, device=maps.device)[:, None]
    above = torch.where(maps, -1, rows).cummax(1).values
    below = torch.where(maps, height, rows).flip(1).cummin(1).values.flip(1)
    columns = torch.minimum(rows - above, below - rows).square()
    x = torch.arange(width, dtype=torch.int32, device=maps.device)
    squares = torch.minimum(columns, torch.minimum(x + 1, width - x).square())
    for step in range(1, width if len(maps) else 0):
        if step % CHECK_EVERY == 1 and step * step >= int(squares.max()):
            break
        right, left = squares[..., step:], squares[..., :-step]
        torch.minimum(right, columns[..., :-step] + step * step, out=right)
        torch.minimum(left, columns[..., step:] + step * step, out=left)
    return squares
