"""Cutting an image and its label to tiles of one size; the last tiles are shifted back inside."""

import numpy as np

from geoclick.geo.tiles import Window, starts


def windows(size: tuple[int, int], tile: tuple[int, int] | None, overlap: int = 0) -> list[Window]:
    """The windows of the tiles of an image, row by row; all have the size of a tile.

    The last tile of a row or column ends with the image and may overlap more. If the image is smaller than a tile, the
    window extends beyond it. For larger images these are the windows of mmsegmentation's converters, which write some
    of them several times.

    Args:
        size: (height, width) of the image.
        tile: (height, width) of a tile; None for a single window of the complete image.
        overlap: smallest overlap of neighbors, in pixels.
    """
    if tile is None:
        return [Window(0, 0, *size)]
    rows, columns = (starts(length, side, overlap) for length, side in zip(size, tile, strict=True))
    return [Window(int(row), int(column), *tile) for row in rows for column in columns]


def cut(pixels: np.ndarray, window: Window, fill: int) -> np.ndarray:
    """A window of [H, W] or [H, W, 3], padded with `fill` on the right and at the bottom if it extends beyond."""
    row, column, height, width = window
    part = pixels[row : row + height, column : column + width]
    missing = (height - part.shape[0], width - part.shape[1])
    if not any(missing):
        return part
    return np.pad(part, [(0, side) for side in missing] + [(0, 0)] * (pixels.ndim - 2), constant_values=fill)
