"""Large rasters cut to tiles that overlap, and which tiles show a part of one.

Pixels are counted from the top left one of the whole raster; a tile is named by its (row, column) in the grid.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """A part of a raster: its top left pixel and its size, in pixels of the raster."""

    row: int
    column: int
    height: int
    width: int


Tile = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """The tiles of a raster.

    Attributes:
        rows: where each row of tiles begins, int64 [N].
        columns: where each column of tiles begins, int64 [M].
        height: of every tile, in pixels.
        width: of every tile, in pixels.
    """

    rows: np.ndarray
    columns: np.ndarray
    height: int
    width: int


def starts(length: int, side: int, overlap: int) -> np.ndarray:
    """Where tiles begin along a length, int64 [N], so that each lies in it and together they cover it.

    Neighbors share `overlap` pixels; the last tile ends with the length and may share more.

    Args:
        length: in pixels; one tile of this length when it is no more than `side`.
        side: of a tile.
        overlap: from 0 to `side` - 1.
    """
    step = side - overlap
    count = max(0, -(-(length - side) // step)) + 1
    return np.minimum(np.arange(count, dtype=np.int64) * step, max(length - side, 0))


def cut(shape: tuple[int, int], side: int, overlap: int) -> Grid:
    """The tiles of a raster of `shape` (height, width); the other arguments as in `starts`."""
    rows, columns = (starts(length, side, overlap) for length in shape)
    return Grid(rows, columns, min(shape[0], side), min(shape[1], side))


def window(grid: Grid, tile: Tile) -> Window:
    """Where a tile lies."""
    return Window(int(grid.rows[tile[0]]), int(grid.columns[tile[1]]), grid.height, grid.width)


def fresh(grid: Grid, tile: Tile) -> tuple[slice, slice]:
    """The rows and columns of a tile that no later tile of its column or row shows: these parts share no pixel.

    Together they cover the raster, so that a sum over them counts every pixel once.
    """
    ends = (
        int(begins[number + 1] - begins[number]) if number + 1 < len(begins) else None
        for begins, number in zip((grid.rows, grid.columns), tile, strict=True)
    )
    rows, columns = map(slice, ends)
    return rows, columns


def overlap(a: Window, b: Window) -> Window | None:
    """What two windows share, or None."""
    row, column = max(a.row, b.row), max(a.column, b.column)
    height = min(a.row + a.height, b.row + b.height) - row
    width = min(a.column + a.width, b.column + b.width) - column
    return Window(row, column, height, width) if height > 0 and width > 0 else None


def all_tiles(grid: Grid) -> list[Tile]:
    """Every tile, row by row."""
    return [(row, column) for row in range(len(grid.rows)) for column in range(len(grid.columns))]


def showing(grid: Grid, box: Window) -> list[Tile]:
    """The fewest tiles that together show a box, row by row, each with as much of it as the tiles allow.

    Along each side: the one tile that holds the box whole, nearest the middle; or else all that show a part of it.
    """
    found = []
    for begins, extent, low, length in (
        (grid.rows, grid.height, box.row, box.height),
        (grid.columns, grid.width, box.column, box.width),
    ):
        high = low + length
        whole = np.flatnonzero((begins <= low) & (begins + extent >= high))
        off = np.abs(2 * begins[whole] + extent - low - high)
        part = np.flatnonzero((begins < high) & (begins + extent > low))
        found.append([int(whole[off.argmin()])] if len(whole) else part.tolist())
    return [(row, column) for row in found[0] for column in found[1]]
