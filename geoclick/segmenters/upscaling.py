"""From the low-resolution logits of a segment-anything model to masks at the size of the image.

segment-anything interpolates bilinearly to its square input size, removes the padding, and interpolates bilinearly to
the size of the image. Both steps are separable, so that one matrix for the rows and one for the columns give the same
result. On a CPU only the pixels that depend on a positive logit are computed: with weights above zero, no other pixel
can be positive.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Axis:
    """The interpolation along one axis from low resolution to the image.

    Attributes:
        weights: float [size, low], rows sum to 1.
        first: the first low-resolution index that each pixel depends on, int [size], ascending.
        last: the last one.
    """

    weights: Tensor
    first: np.ndarray
    last: np.ndarray

    def reach(self, start: int, stop: int) -> tuple[slice, slice]:
        """The pixels that depend on low-resolution indexes start to stop - 1, and all indexes that these depend on."""
        pixels = slice(int(np.searchsorted(self.last, start)), int(np.searchsorted(self.first, stop)))
        if pixels.start >= pixels.stop:
            return slice(0, 0), slice(0, 0)
        return pixels, slice(int(self.first[pixels.start]), int(self.last[pixels.stop - 1]) + 1)


@lru_cache(maxsize=256)
def axis(low: int, side: int, inside: int, size: int, device: torch.device) -> Axis:
    """The axis from length `low` to the model's `side`, of which `inside` hold the image, to `size` pixels."""
    square = functional.interpolate(torch.eye(low)[None], side, mode="linear", align_corners=False)
    weights = functional.interpolate(square[..., :inside], size, mode="linear", align_corners=False)[0].T
    used = weights.numpy() > 0
    last = low - 1 - used[:, ::-1].argmax(1)
    return Axis(weights.contiguous().to(device), used.argmax(1), last)


def masks(low_res: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """Where logits [N, h, w] are above zero at the size of the image: bool [N, H, W]."""
    if low_res.device.type != "cpu":
        return rows.weights @ low_res @ columns.weights.T > 0
    planes = torch.zeros(len(low_res), len(rows.weights), len(columns.weights), dtype=torch.bool)
    positive = low_res > 0
    in_rows_and_columns = zip(positive.any(2).numpy(), positive.any(1).numpy(), strict=True)
    for mask, logits, (in_rows, in_columns) in zip(planes, low_res, in_rows_and_columns, strict=True):
        if not in_rows.any():
            continue
        (ys, low_ys), (xs, low_xs) = (
            axis.reach(int(used.argmax()), len(used) - int(used[::-1].argmax()))
            for axis, used in ((rows, in_rows), (columns, in_columns))
        )
        mask[ys, xs] = rows.weights[ys, low_ys] @ logits[low_ys, low_xs] @ columns.weights[xs, low_xs].T > 0
    return planes
