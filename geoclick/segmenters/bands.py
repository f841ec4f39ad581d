"""Properties of masks whose outline is everywhere: all pixels are computed, in bands of rows."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from geoclick.segmenters.upscaling import Axis

BAND_PIXELS = {"cpu": 2**16, "cuda": 2**26}
"""Pixels of one band, by device; on a CPU they should stay in the caches."""


class _Taps:
    """The logits that each pixel along an axis depends on, int64 [K, size], and their weights, float [K, size]."""

    def __init__(self, axis: Axis) -> None:
        reach = int((axis.last - axis.first).max()) + 1
        device = axis.weights.device
        index = torch.as_tensor(axis.first, device=device) + torch.arange(reach, device=device)[:, None]
        dense = functional.pad(axis.weights, (0, reach))
        self.weights = dense.gather(1, index.T).T.contiguous()
        self.index = index.clamp(max=axis.weights.shape[1] - 1)

    def __len__(self) -> int:
        return len(self.index)


class Bands:
    """Logits [N, h, w] of one image at its full size, some rows at a time.

    Args:
        rows: the interpolation along the rows.
        columns: along the columns.
    """

    def __init__(self, rows: Axis, columns: Axis) -> None:
        self.rows, self.columns = _Taps(rows), _Taps(columns)
        self.size = len(rows.weights), len(columns.weights)

    def __call__(self, low_res: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The rows of each band and its logits, float [N, rows, W]."""
        wide = low_res[:, :, self.columns.index[0]] * self.columns.weights[0]
        for k in range(1, len(self.columns)):
            wide.addcmul_(low_res[:, :, self.columns.index[k]], self.columns.weights[k])
        limit = BAND_PIXELS.get(low_res.device.type, BAND_PIXELS["cuda"])
        step = max(1, limit // max(1, len(low_res) * self.size[1]))
        for start in range(0, self.size[0], step):
            band = slice(start, start + step)
            values = wide[:, self.rows.index[0, band]] * self.rows.weights[0, band, None]
            for k in range(1, len(self.rows)):
                values.addcmul_(wide[:, self.rows.index[k, band]], self.rows.weights[k, band, None])
            yield band, values

    def measure(self, low_res: Tensor, offset: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The pixels above `offset` and -`offset`, int64 [N], and rows [N, H] and columns [N, W] above zero."""
        high, low = (torch.zeros(len(low_res), dtype=torch.int64, device=low_res.device) for _ in range(2))
        in_rows = torch.zeros(len(low_res), self.size[0], dtype=torch.bool, device=low_res.device)
        in_columns = torch.zeros(len(low_res), self.size[1], dtype=torch.bool, device=low_res.device)
        for band, values in self(low_res):
            high += (values > offset).flatten(1).count_nonzero(1)
            low += (values > -offset).flatten(1).count_nonzero(1)
            above = values > 0
            in_rows[:, band] = above.any(2)
            in_columns |= above.any(1)
        return high, low, in_rows, in_columns

    def masks(self, low_res: Tensor) -> Tensor:
        """The masks, bool [N, W, H]."""
        shape = len(low_res), self.size[1], self.size[0]
        masks = torch.empty(shape, dtype=torch.bool, device=low_res.device)
        for band, values in self(low_res):
            masks[:, :, band] = (values > 0).transpose(1, 2)
        return masks
