"""Dense logits of large images: tiles that blend in their overlaps, strip by strip.

At most the logits of one row of tiles are held, [Q, tile, W], whatever the height of the image.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from geoclick.geo import tiles

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


def _ramp(side: int, overlap: int) -> Tensor:
    """Weights along a side of a tile [side]: positive, 1 where no other tile need overlap."""
    position = torch.arange(side)
    distance = torch.minimum(position, position.flip(0)) + 1
    return (distance / (overlap + 1)).clamp(max=1)
