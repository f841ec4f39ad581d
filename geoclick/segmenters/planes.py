"""Properties of masks at the size of the image, computed from low-resolution logits without making the masks.

Bilinear interpolation stays between the logits that it mixes. A block of pixels that depends on a few logits is thus
inside the mask if all of these are above zero, and outside if none is. Pixels are computed only in the blocks that an
outline passes, or in all blocks of a mask whose outline is everywhere (bands.py). A segmenter without known
interpolation makes its masks at full size, a few at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geoclick.segmenters.bands import Bands
from geoclick.segmenters.base import Embedding, Segmenter
from geoclick.segmenters.sam import SamSegmenter
from geoclick.segmenters.transformers_sam import TransformersSam
from geoclick.segmenters.upscaling import Axis

PIXELS = {"cpu": 2**17, "cuda": 2**25}
"""Pixels that are computed at once, by device; on a CPU they should stay in the caches."""

PLANE_PIXELS = {"cpu": 2**23, "cuda": 2**28}
"""Pixels of the masks that are made at once, by device."""


CROWDED = 0.1
"""Share of blocks on outlines above which all pixels of a mask are computed."""


class Measures(NamedTuple):
    """Of each mask at the size of the image.

    Attributes:
        stability: IoU of the masks of a higher and a lower threshold, float32 [N]; NaN if both are empty.
        boxes: (left, top, right, bottom), the outermost pixels inside, int64 [N, 4]; zeros for an empty mask.
    """

    stability: Tensor
    boxes: Tensor


class Planes(Protocol):
    """From logits [N, h, w] of one image to its masks at full size."""

    def measure(self, low_res: Tensor, offset: float) -> Measures:
        """Stability under a change of the threshold from zero by `offset` in both directions, and boxes."""
        ...

    def runs(self, low_res: Tensor) -> list[np.ndarray]:
        """The run lengths of each mask, column by column, zeros first, as `masks.encode_runs` takes them."""
        ...


def planes(segmenter: Segmenter, embedding: Embedding, low_res: tuple[int, int]) -> Planes:
    """The fastest way for a segmenter; `low_res` is the (height, width) of its logits."""
    if isinstance(segmenter, SamSegmenter | TransformersSam):
        return BlockPlanes(*segmenter.axes(low_res, embedding), low_res)
    return FullPlanes(segmenter, embedding)


def _at_once(limits: dict[str, int], device: torch.device, each: int) -> int:
    return max(1, limits.get(device.type, limits["cuda"]) // each)


class FullPlanes:
    """Masks at full size by the segmenter's own interpolation, which must be linear in the logits."""

    def __init__(self, segmenter: Segmenter, embedding: Embedding) -> None:
        self.segmenter, self.embedding = segmenter, embedding
        pixels = embedding.size[0] * embedding.size[1]
        self.at_once = _at_once(PLANE_PIXELS, segmenter.device, pixels)

    def measure(self, low_res: Tensor, offset: float) -> Measures:
        """See Planes."""
        parts = [self._measure(chunk, offset) for chunk in torch.split(low_res, self.at_once)]
        return Measures(*(torch.cat(own) for own in zip(*parts, strict=True)))

    def _measure(self, low_res: Tensor, offset: float) -> Measures:
        high, low = (
            self.segmenter.masks(low_res - shift, self.embedding).sum((1, 2), dtype=torch.int32)
            for shift in (offset, -offset)
        )
        masks = self.segmenter.masks(low_res, self.embedding)
        (top, bottom), (left, right) = (_extent(masks.any(axis)) for axis in (2, 1))
        boxes = torch.stack([left, top, right, bottom], dim=1) * masks.any(2).any(1)[:, None]
        return Measures(high / low, boxes)

    def runs(self, low_res: Tensor) -> list[np.ndarray]:
        """See Planes."""
        chunks = torch.split(low_res, self.at_once)
        return [
            runs
            for chunk in chunks
            for runs in _column_runs(self.segmenter.masks(chunk, self.embedding).transpose(1, 2))
        ]


def _extent(used: Tensor) -> tuple[Tensor, Tensor]:
    """The first and last true element along axis 1 of bool [N, L]; 0 and L - 1 if there is none."""
    number = used.to(torch.uint8)
    return number.argmax(1), used.shape[1] - 1 - number.flip(1).argmax(1)


def _column_runs(columns: Tensor) -> list[np.ndarray]:
    """The run lengths of masks, bool [N, W, H]."""
    if not len(columns):
        return []
    flat = columns.flatten(1)
    number, place = (part.cpu().numpy() for part in (flat[:, 1:] ^ flat[:, :-1]).nonzero(as_tuple=True))
    starts = np.searchsorted(number, np.arange(1, len(flat)))
    ones = flat[:, 0].tolist()
    ends = [np.append(own + 1, flat.shape[1]) for own in np.split(place, starts)]
    return [np.diff(own, prepend=[0, 0] if one else 0) for own, one in zip(ends, ones, strict=True)]


@dataclass(frozen=True, eq=False)
class _Side:
    """The blocks along one axis.

    Attributes:
        first: the first low-resolution index of each block, int64 [B].
        start: its first pixel, int64 [B].
        count: its number of pixels, int64 [B].
        weights: of `reach` low-resolution indexes for each pixel, float [P, reach, B]; NaN where a block has fewer
            than P pixels, and NaN is above no threshold.
    """

    first: Tensor
    start: Tensor
    count: Tensor
    weights: Tensor

    @property
    def reach(self) -> int:
        return self.weights.shape[1]


def _side(axis: Axis) -> _Side:
    first, start, count = np.unique(axis.first, return_index=True, return_counts=True)
    reach = int((axis.last - axis.first).max()) + 1
    dense = functional.pad(axis.weights.cpu(), (0, reach))
    pixels = torch.as_tensor(start)[None] + torch.arange(int(count.max()))[:, None]
    missing = pixels >= torch.as_tensor(start + count)
    low = torch.as_tensor(first) + torch.arange(reach)[:, None]
    weights = dense[pixels.clamp(max=len(dense) - 1)[:, None], low[None]]
    weights = weights.masked_fill(missing[:, None], float("nan"))
    device = axis.weights.device
    firsts, starts, counts = (torch.as_tensor(values, device=device) for values in (first, start, count))
    return _Side(firsts, starts, counts, weights.contiguous().to(device))


class _Block(NamedTuple):
    """Some blocks with their pixels: mask, row and column of each, int64 [M], and values float [P, P', M]."""

    mask: Tensor
    row: Tensor
    column: Tensor
    values: Tensor


class BlockPlanes:
    """Masks by blocks of pixels that depend on the same logits.

    Args:
        rows: the interpolation along the rows.
        columns: along the columns.
        low_res: (height, width) of the logits.
    """

    def __init__(self, rows: Axis, columns: Axis, low_res: tuple[int, int]) -> None:
        self.rows, self.columns = _side(rows), _side(columns)
        self.bands = Bands(rows, columns)
        self.size = len(rows.weights), len(columns.weights)
        device = rows.weights.device
        self.blocks_at_once = _at_once(PIXELS, device, len(self.rows.weights) * len(self.columns.weights))
        self.masks_at_once = _at_once(PLANE_PIXELS, device, self.size[0] * self.size[1])

    def measure(self, low_res: Tensor, offset: float) -> Measures:
        """See Planes."""
        padded, smallest, largest = self._bounds(low_res)
        crowded = self._crowded(smallest, largest, offset)
        other = ~crowded
        parts = [
            self._measure_blocks(padded[other], smallest[other], largest[other], offset),
            self._measure_bands(low_res[crowded], offset),
        ]
        order = torch.cat([other.nonzero()[:, 0], crowded.nonzero()[:, 0]]).argsort()
        return Measures(*(torch.cat(own)[order] for own in zip(*parts, strict=True)))

    def _crowded(self, smallest: Tensor, largest: Tensor, offset: float) -> Tensor:
        """Masks with so many blocks on outlines that it is faster to compute all pixels, bool [N]."""
        mixed = (largest > -offset) & (smallest <= offset)
        return mixed.flatten(1).float().mean(1) > CROWDED

    def _measure_bands(self, low_res: Tensor, offset: float) -> Measures:
        high, low, in_rows, in_columns = self.bands.measure(low_res, offset)
        (top, bottom), (left, right) = _extent(in_rows), _extent(in_columns)
        boxes = torch.stack([left, top, right, bottom], dim=1) * in_rows.any(1)[:, None]
        return Measures(high.int() / low.int(), boxes)

    def _measure_blocks(self, padded: Tensor, smallest: Tensor, largest: Tensor, offset: float) -> Measures:
        mixed = torch.zeros_like(smallest, dtype=torch.bool)
        column_counts, counts = self.columns.count.float(), []
        for threshold in (offset, -offset, 0.0):
            inside = smallest > threshold
            mixed |= (largest > threshold) & ~inside
            # Exact: the pixels of one row of blocks are far below 2**24.
            counts.append(((inside.float() @ column_counts).long() * self.rows.count).sum(-1))
        # `inside` is now that of zero.
        edges = [_Edges(inside.any(other), side) for other, side in ((1, self.columns), (2, self.rows))]
        for block in self._pixels(padded, mixed):
            for count, threshold in zip(counts, (offset, -offset), strict=False):
                above = (block.values > threshold).sum((0, 1))
                # The pixels of blocks that are inside as a whole are counted already.
                above = torch.where(smallest[block.mask, block.row, block.column] > threshold, 0, above)
                count.index_add_(0, block.mask, above)
            above = block.values > 0
            edges[0].extend(block.mask, block.column, above.any(0))
            edges[1].extend(block.mask, block.row, above.any(1))
        (left, right), (top, bottom) = ((edge.first, edge.last) for edge in edges)
        boxes = torch.stack([left, top, right, bottom], dim=1) * (right >= left)[:, None]
        return Measures(counts[0].int() / counts[1].int(), boxes)

    def runs(self, low_res: Tensor) -> list[np.ndarray]:
        """See Planes."""
        return [
            runs
            for chunk in torch.split(low_res, self.masks_at_once)
            for runs in _column_runs(self._columns(chunk))
        ]

    def _columns(self, low_res: Tensor) -> Tensor:
        """The masks, bool [N, W, H]."""
        padded, smallest, largest = self._bounds(low_res)
        if self._crowded(smallest, largest, 0.0).any():
            return self.bands.masks(low_res)
        inside = smallest > 0
        masks = inside.transpose(1, 2).repeat_interleave(self.columns.count, 1)
        masks = masks.repeat_interleave(self.rows.count, 2)
        flat = masks.view(-1)
        for block in self._pixels(padded, (largest > 0) & ~inside):
            y, x, number = (block.values > 0).nonzero(as_tuple=True)
            x += self.columns.start[block.column[number]]
            y += self.rows.start[block.row[number]]
            flat[(block.mask[number] * self.size[1] + x) * self.size[0] + y] = True
        return masks

    def _bounds(self, low_res: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The logits with room for the last blocks, and the smallest and largest logit of each block [N, B, B']."""
        below, right = self.rows.reach - 1, self.columns.reach - 1
        padded = functional.pad(low_res[:, None], (0, right, 0, below), mode="replicate")[:, 0]
        height, width = low_res.shape[1:]
        bounds = []
        for extreme in (torch.minimum, torch.maximum):
            values = padded
            for sides, length, dim in ((self.rows, height, 1), (self.columns, width, 2)):
                parts = (values.narrow(dim, k, length) for k in range(sides.reach))
                values = reduce(extreme, parts)
                if len(sides.first) != length:
                    values = values.index_select(dim, sides.first)
            bounds.append(values)
        return padded, bounds[0], bounds[1]

    def _pixels(self, padded: Tensor, chosen: Tensor) -> Iterator[_Block]:
        """The pixels of the blocks chosen in bool [N, B, B'], some at a time."""
        numbers = chosen.nonzero()
        height, width = padded.shape[1:]
        flat = padded.reshape(-1)
        for mask, row, column in (part.unbind(1) for part in torch.split(numbers, self.blocks_at_once)):
            corner = (mask * height + self.rows.first[row]) * width + self.columns.first[column]
            of_rows = self.rows.weights[:, :, row]
            by_row = [
                torch.stack(
                    [of_rows[:, k] * flat[corner + k * width + j] for k in range(self.rows.reach)]
                ).sum(0)
                for j in range(self.columns.reach)
            ]
            of_columns = self.columns.weights[:, :, column]
            values = by_row[0][:, None] * of_columns[None, :, 0]
            for j in range(1, self.columns.reach):
                values.addcmul_(by_row[j][:, None], of_columns[None, :, j])
            yield _Block(mask, row, column, values)


class _Edges:
    """The first and last pixel of each mask along one axis, int64 [N].

    Args:
        inside: blocks along the axis with a part inside the mask, bool [N, B].
        side: the blocks.
    """

    def __init__(self, inside: Tensor, side: _Side) -> None:
        self.side, self.end = side, int(side.start[-1] + side.count[-1])
        first, last = _extent(inside)
        empty = ~inside.any(1)
        self.first = side.start[first].masked_fill(empty, self.end)
        self.last = (side.start + side.count - 1)[last].masked_fill(empty, -1)

    def extend(self, mask: Tensor, block: Tensor, above: Tensor) -> None:
        """Include pixels of blocks: masks and blocks int64 [M], and which pixels of each, bool [P, M]."""
        used = above.any(0)
        first, last = _extent(above.T)
        start = self.side.start[block]
        self.first.scatter_reduce_(0, mask, (start + first).where(used, self.end), "amin")
        self.last.scatter_reduce_(0, mask, (start + last).where(used, -1), "amax")
