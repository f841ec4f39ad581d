"""Dense logits of large images: tiles that blend in their overlaps, strip by strip or window by window.

`strips` holds the logits of one row of tiles, [Q, tile, W]. `Blend` gives those of single windows; it holds what its
tiles are made of, for the rows of tiles that a row of windows touches.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from geoclick.geo import tiles
from geoclick.geo.tiles import Tile, Window

LogitsOf = Callable[[np.ndarray], Tensor]
"""The logits [Q, h, w] of a tile, uint8 [h, w, 3], such as `window_logits` with a model."""


def strips(
    image: np.ndarray, logits_of: LogitsOf, *, tile: int, overlap: int
) -> Iterator[tuple[int, Tensor]]:
    """The logits of an image from top to bottom, strip by strip.

    The weight of a tile rises linearly from its border over the overlap; an image that fits a tile is one tile.

    Args:
        image: uint8 [H, W, 3].
        logits_of: gives the logits of a tile at its size.
        tile: side of a tile in pixels.
        overlap: smallest overlap of neighboring tiles in pixels, less than `tile`.

    Yields:
        The first row of a strip and its logits, float32 [Q, rows, W].
    """
    grid = tiles.cut((image.shape[0], image.shape[1]), tile, overlap)
    if len(grid.rows) == len(grid.columns) == 1:
        yield 0, logits_of(image).float()
        return
    ramp = _ramp(grid.height, overlap)[:, None] * _ramp(grid.width, overlap)
    total: Tensor | None = None
    weight = torch.zeros(0)
    for number, top in enumerate(map(int, grid.rows)):
        for left in map(int, grid.columns):
            logits = logits_of(image[top : top + grid.height, left : left + grid.width])
            if total is None:
                total = logits.new_zeros(len(logits), grid.height, image.shape[1], dtype=torch.float32)
                weight = total.new_zeros(grid.height, image.shape[1])
            weights = ramp.to(logits.device)
            total[:, :, left : left + grid.width] += logits * weights
            weight[:, left : left + grid.width] += weights
        assert total is not None
        last = number + 1 == len(grid.rows)
        ready = grid.height if last else int(grid.rows[number + 1]) - top
        yield top, total[:, :ready] / weight[:ready]
        # The rows that the next tiles also show move to the top.
        total = torch.cat([total[:, ready:], torch.zeros_like(total[:, :ready])], dim=1)
        weight = torch.cat([weight[ready:], torch.zeros_like(weight[:ready])])


class Blend:
    """The blended logits of windows of an image, equal to those of `strips` bit by bit.

    Args:
        size: (height, width) of the image.
        small_of: gives the logits of a tile, [Q, h, w] at any size, which are held on the CPU.
        enlarge: brings them to a size (height, width).
        tile: side of a tile in pixels.
        overlap: smallest overlap of neighboring tiles in pixels, less than `tile`.
    """

    def __init__(
        self,
        size: tuple[int, int],
        small_of: Callable[[Window], Tensor],
        enlarge: Callable[[Tensor, tuple[int, int]], Tensor],
        *,
        tile: int,
        overlap: int,
    ) -> None:
        self._grid = grid = tiles.cut(size, tile, overlap)
        self._small_of, self._enlarge = small_of, enlarge
        self._ramp = _ramp(grid.height, overlap)[:, None] * _ramp(grid.width, overlap)
        self._small: dict[Tile, Tensor] = {}
        self._device = torch.device("cpu")

    def at(self, window: Window) -> Tensor:
        """The logits of a window, float32 [Q, h, w]; windows are asked row by row from top to bottom."""
        grid = self._grid
        for place in [place for place in self._small if grid.rows[place[0]] + grid.height <= window.row]:
            del self._small[place]
        rows, columns = (
            [number for number, start in enumerate(starts) if start < low + length and start + side > low]
            for starts, side, low, length in (
                (grid.rows.tolist(), grid.height, window.row, window.height),
                (grid.columns.tolist(), grid.width, window.column, window.width),
            )
        )
        single = len(grid.rows) == len(grid.columns) == 1
        total, weight = torch.zeros(0), torch.zeros(0)
        for tile in [(row, column) for row in rows for column in columns]:
            own = tiles.window(grid, tile)
            part = tiles.overlap(own, window)
            assert part is not None
            logits = self._full(tile)[(slice(None), *_inside(part, own))]
            if single:
                return logits.float()
            if not len(total):
                total = logits.new_zeros(len(logits), window.height, window.width, dtype=torch.float32)
                weight = total.new_zeros(window.height, window.width)
            weights = self._ramp[_inside(part, own)].to(logits.device)
            total[(slice(None), *_inside(part, window))] += logits * weights
            weight[_inside(part, window)] += weights
        return total / weight

    def _full(self, tile: Tile) -> Tensor:
        """The logits of a tile at its size."""
        if tile not in self._small:
            small = self._small_of(tiles.window(self._grid, tile))
            self._device = small.device
            self._small[tile] = small.cpu()
        return self._enlarge(self._small[tile].to(self._device), (self._grid.height, self._grid.width))


def _inside(part: Window, window: Window) -> tuple[slice, slice]:
    """The rows and columns of a part of a window."""
    top, left = part.row - window.row, part.column - window.column
    return slice(top, top + part.height), slice(left, left + part.width)


def _ramp(side: int, overlap: int) -> Tensor:
    """Weights along a side of a tile [side]: positive, 1 where no other tile need overlap."""
    position = torch.arange(side)
    distance = torch.minimum(position, position.flip(0)) + 1
    return (distance / (overlap + 1)).clamp(max=1)
