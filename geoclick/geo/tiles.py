"""Cutting large rasters to overlapping tiles, and the tiles that show a part of the raster.

Windows are in pixels of the raster; a tile is identified by its (row, column) in the grid.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

FOLDER = ".tiles"
"""Folder of the tiles of a split's images; each image has its own folder there."""


class Window(NamedTuple):
    """A rectangle of a raster: its top left pixel and its size."""

    row: int
    column: int
    height: int
    width: int


Tile = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """The tiles of a raster.

    Attributes:
        rows: first pixel row of each row of tiles, int64 [N].
        columns: first pixel column of each column of tiles, int64 [M].
        height: height of every tile in pixels.
        width: width of every tile in pixels.
    """

    rows: np.ndarray
    columns: np.ndarray
    height: int
    width: int


def starts(length: int, side: int, overlap: int) -> np.ndarray:
    """The first pixels of the tiles that cover a length, int64 [N].

    Neighbors overlap by `overlap` pixels; the last tile ends with the length and may overlap more.

    Args:
        length: in pixels; a single tile covers it if it is at most `side`.
        side: side of a tile in pixels.
        overlap: from 0 to `side` - 1.
    """
    step = side - overlap
    count = max(0, -(-(length - side) // step)) + 1
    return np.minimum(np.arange(count, dtype=np.int64) * step, max(length - side, 0))


def cut(shape: tuple[int, int], side: int, overlap: int) -> Grid:
    """The tiles of a raster of `shape` (height, width); other arguments as in `starts`."""
    rows, columns = (starts(length, side, overlap) for length in shape)
    return Grid(rows, columns, min(shape[0], side), min(shape[1], side))


def window(grid: Grid, tile: Tile) -> Window:
    """The window of a tile."""
    return Window(int(grid.rows[tile[0]]), int(grid.columns[tile[1]]), grid.height, grid.width)


def crop(pixels: np.ndarray, window: Window) -> np.ndarray:
    """A window of pixels [H, W, ...], contiguous."""
    row, column, height, width = window
    return np.ascontiguousarray(pixels[row : row + height, column : column + width])


def exclusive(grid: Grid, tile: Tile) -> tuple[slice, slice]:
    """The rows and columns of a tile that no later tile of its column or row shows.

    These parts of all tiles cover the raster without overlap, so that a sum over them counts every pixel once.
    """
    ends = (
        int(begins[number + 1] - begins[number]) if number + 1 < len(begins) else None
        for begins, number in zip((grid.rows, grid.columns), tile, strict=True)
    )
    rows, columns = map(slice, ends)
    return rows, columns


def is_tile(image: str) -> bool:
    """Whether an image, by its path in the dataset, is a tile of a larger one; tiles are written as they are shown."""
    return FOLDER in PurePosixPath(image).parts


def source(image: str) -> str:
    """What the tiles of one image have in common: their folder; the path of an image that is no tile."""
    return PurePosixPath(image).parent.as_posix() if is_tile(image) else image


def overlap(a: Window, b: Window) -> Window | None:
    """The intersection of two windows, or None."""
    row, column = max(a.row, b.row), max(a.column, b.column)
    height = min(a.row + a.height, b.row + b.height) - row
    width = min(a.column + a.width, b.column + b.width) - column
    return Window(row, column, height, width) if height > 0 and width > 0 else None


def all_tiles(grid: Grid) -> list[Tile]:
    """Every tile, row by row."""
    return [(row, column) for row in range(len(grid.rows)) for column in range(len(grid.columns))]


def touching(grid: Grid, box: Window) -> list[Tile]:
    """All tiles that show a part of a box, row by row."""
    return [tile for tile in all_tiles(grid) if overlap(window(grid, tile), box)]


def showing(grid: Grid, box: Window) -> list[Tile]:
    """The fewest tiles that together show a box, row by row.

    In each direction: the tile that contains the box and has it nearest to its center; otherwise all tiles that show a
    part of it.
    """
    selected: list[list[int]] = []
    for begins, extent, low, length in (
        (grid.rows, grid.height, box.row, box.height),
        (grid.columns, grid.width, box.column, box.width),
    ):
        high = low + length
        containing = np.flatnonzero((begins <= low) & (begins + extent >= high))
        offset = np.abs(2 * begins[containing] + extent - low - high)
        showing_part = np.flatnonzero((begins < high) & (begins + extent > low))
        selected.append([int(containing[offset.argmin()])] if len(containing) else showing_part.tolist())
    return [(row, column) for row in selected[0] for column in selected[1]]
