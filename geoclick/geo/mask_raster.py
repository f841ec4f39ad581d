"""Writing the mask of a large raster from overlapping windows, into a tiled, compressed GeoTIFF.

Only the rows of one row of windows are in memory. Values: 0, TARGET, and `writing.NO_DATA` where there are no data.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick.geo import index_raster, tiles
from geoclick.geo.index_raster import IndexWriter
from geoclick.geo.tiles import Grid, Tile
from geoclick.geo.writing import NO_DATA

if TYPE_CHECKING:
    from affine import Affine

TARGET = 1

COLORS = {0: (0, 0, 0), TARGET: (255, 255, 255)}


class MaskWriter:
    """Joins the masks of windows, given row by row of their grid, and writes them as a GeoTIFF.

    The mask is the union of the masks of all windows. The file gets its name when `close` has ended.

    Args:
        path: of the GeoTIFF.
        grid: the windows.
        size: (height, width) of the raster.
        crs: as in `Georeference`; empty for none.
        transform: from pixels to coordinates, or None.
        name: of the target, which becomes the band's description.
        longest: longest side of `small`.

    Attributes:
        small: the mask reduced for an overlay, bool [h, w]: a pixel is set if any of its pixels is.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        size: tuple[int, int],
        crs: str,
        transform: "Affine | None",
        *,
        name: str,
        longest: int,
    ) -> None:
        self.path, self.grid, self.size = path, grid, size
        shrink = max(1.0, max(size) / longest)
        self.small = np.zeros([max(1, round(side / shrink)) for side in size], bool)
        self._top = 0
        self._rows = np.zeros((grid.height, size[1]), np.uint8)
        self._file = IndexWriter(path, size, crs, transform, colors=COLORS, description=name)

    @property
    def area(self) -> int:
        """Pixels of the mask that are written so far."""
        return int(self._file.counts[TARGET])

    @property
    def no_data(self) -> int:
        """Pixels without data that are written so far."""
        return int(self._file.counts[NO_DATA])

    def add(self, tile: Tile, mask: np.ndarray | None, valid: np.ndarray | None) -> None:
        """Add the mask of a window.

        Args:
            tile: of the grid, at or after those that were added before, row by row.
            mask: bool [H, W]; None for a window without data.
            valid: the pixels with data, bool [H, W]; None if all have some.
        """
        window = tiles.window(self.grid, tile)
        self._write_until(window.row)
        top = window.row - self._top
        rows = self._rows[top : top + window.height, window.column : window.column + window.width]
        if mask is None:
            rows[:] = NO_DATA
            return
        rows[mask] = TARGET
        if valid is not None:
            rows[~valid] = NO_DATA

    def close(self) -> None:
        """Write what is left; raises OSError as `IndexWriter.close`."""
        self._write_until(self.size[0])
        self._file.close()

    def abort(self, error: BaseException) -> None:
        """Remove the unfinished file."""
        self._file.abort(error)

    def _write_until(self, row: int) -> None:
        """Write the rows above `row`."""
        count = row - self._top
        if count <= 0:
            return
        done = self._rows[:count]
        self._reduce(done == TARGET)
        self._file.write(done)
        rest = self._rows[count:]
        self._rows = np.zeros((min(self.size[0] - row, self.grid.height), self.size[1]), np.uint8)
        self._rows[: len(rest)] = rest
        self._top = row

    def _reduce(self, mask: np.ndarray) -> None:
        """Add rows of the mask, bool [rows, W], to `small`."""
        height, width = self.small.shape
        columns = np.arange(mask.shape[1]) * width // mask.shape[1]
        rows = (self._top + np.arange(len(mask))) * height // self.size[0]
        by_column = np.logical_or.reduceat(mask, np.unique(columns, return_index=True)[1], axis=1)
        places, starts = np.unique(rows, return_index=True)
        self.small[places] |= np.logical_or.reduceat(by_column, starts, axis=0)


def read_mask(path: Path) -> np.ndarray:
    """A mask that was written by MaskWriter, bool [H, W]."""
    return index_raster.read(path) == TARGET
