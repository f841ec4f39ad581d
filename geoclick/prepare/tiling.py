"""Cutting a picture and its label to tiles of one size, the last ones shifted back inside."""

import numpy as np

from geoclick.geo.tiles import Window, starts


def windows(size: tuple[int, int], tile: tuple[int, int] | None, overlap: int = 0) -> list[Window]:
    """Where the tiles of a picture lie, row by row; all of them are as large as a tile.

    The last tile of a row or column ends with the picture and shares more than `overlap` with the one before; where
    the picture is shorter than a tile, that begins with it and reaches beyond. For pictures at least as large as a
    tile these are the windows of mmsegmentation's converters, which write some of them several times.

    Args:
        size: (height, width) of the picture.
        tile: (height, width) of a tile; None for one window, the whole picture.
        overlap: pixels that neighbors share at least.
    """
    if tile is None:
        return [Window(0, 0, *size)]
    rows, columns = (starts(length, side, overlap) for length, side in zip(size, tile, strict=True))
    return [Window(int(row), int(column), *tile) for row in rows for column in columns]


def cut(pixels: np.ndarray, window: Window, fill: int) -> np.ndarray:
    """A window of [H, W] or [H, W, 3], filled up with `fill` on the right and at the bottom where it reaches beyond."""
    row, column, height, width = window
    part = pixels[row : row + height, column : column + width]
    missing = (height - part.shape[0], width - part.shape[1])
    if not any(missing):
        return part
    return np.pad(part, [(0, side) for side in missing] + [(0, 0)] * (pixels.ndim - 2), constant_values=fill)
