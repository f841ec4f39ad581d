"""From the low-resolution logits of a segment-anything model to masks at the size of the image.

segment-anything interpolates bilinearly to its own square, cuts off the padding, and interpolates bilinearly to the
image. Both act on rows and columns apart, so that one matrix for the rows and one for the columns do the same. On a
CPU only the part is worked out that lies within reach of a positive logit: elsewhere no sum of logits with weights
above zero can be positive.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Axis:
    """The way of one axis from low resolution to the image.

    Attributes:
        weights: float [size, low], rows sum to 1.
        first: the first low-resolution place that each pixel depends on, int [size], rising.
        last: the last one.
    """

    weights: Tensor
    first: np.ndarray
    last: np.ndarray

    def reach(self, start: int, stop: int) -> tuple[slice, slice]:
        """The pixels that places from `start` to before `stop` have a part in, and all the places these depend on."""
        pixels = slice(int(np.searchsorted(self.last, start)), int(np.searchsorted(self.first, stop)))
        if pixels.start >= pixels.stop:
            return slice(0, 0), slice(0, 0)
        return pixels, slice(int(self.first[pixels.start]), int(self.last[pixels.stop - 1]) + 1)


@lru_cache(maxsize=256)
def axis(low: int, side: int, kept: int, size: int, device: torch.device) -> Axis:
    """The axis from `low` places to the model's `side`, of which `kept` hold the image, to `size` pixels."""
    square = functional.interpolate(torch.eye(low)[None], side, mode="linear", align_corners=False)
    weights = functional.interpolate(square[..., :kept], size, mode="linear", align_corners=False)[0].T
    used = weights.numpy() > 0
    last = low - 1 - used[:, ::-1].argmax(1)
    return Axis(weights.contiguous().to(device), used.argmax(1), last)


def masks(low_res: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """Where logits [N, h, w] are above zero at the size of the image: bool [N, H, W]."""
    if low_res.device.type != "cpu":
        return rows.weights @ low_res @ columns.weights.T > 0
    found = torch.zeros(len(low_res), len(rows.weights), len(columns.weights), dtype=torch.bool)
    positive = (low_res > 0).numpy()
    for mask, logits, in_rows, in_columns in zip(
        found, low_res, positive.any(2), positive.any(1), strict=True
    ):
        if not in_rows.any():
            continue
        (ys, low_ys), (xs, low_xs) = (
            axis.reach(int(places.argmax()), len(places) - int(places[::-1].argmax()))
            for axis, places in ((rows, in_rows), (columns, in_columns))
        )
        mask[ys, xs] = rows.weights[ys, low_ys] @ logits[low_ys, low_xs] @ columns.weights[xs, low_xs].T > 0
    return found
