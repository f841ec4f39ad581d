"""Writing the mask of a large raster from overlapping windows, into a tiled, compressed GeoTIFF.

Only the rows of one row of windows are in memory. Values: 0, TARGET, and `writing.NO_DATA` where there are no data.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick import files
from geoclick.errors import GeoClickError, first_line
from geoclick.geo import tiles
from geoclick.geo.tiles import Grid, Tile
from geoclick.geo.writing import NO_DATA

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.io import DatasetWriter

TARGET = 1
BLOCK = 256
"""Side of the blocks of the GeoTIFF in pixels; complete blocks are written once."""

COLORS = {0: (0, 0, 0, 255), TARGET: (255, 255, 255, 255), NO_DATA: (0, 0, 0, 0)}


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
        area: pixels of the mask that are written so far.
        no_data: pixels without data that are written so far.
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
        self.area = self.no_data = 0
        shrink = max(1.0, max(size) / longest)
        self.small = np.zeros([max(1, round(side / shrink)) for side in size], bool)
        self._top = 0
        self._rows = np.zeros((min(size[0], grid.height + BLOCK), size[1]), np.uint8)
        files.refuse_link(path)
        self._stack = ExitStack()
        self._partial = self._stack.enter_context(files.whole(path))
        self._open = self._stack.enter_context(ExitStack())
        self._raster = self._open.enter_context(_created(self._partial, size, crs, transform, name))

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
        """Write what is left, and compare the file with what was written.

        Raises:
            OSError: they differ. GDAL writes blocks late, and does not say that the disk is full.
        """
        self._write_until(self.size[0])
        self._open.close()
        if _counts(self._partial) != (self.area, self.no_data):
            error = files.incomplete(self.path)
            self.abort(error)
            raise error
        self._stack.close()

    def abort(self, error: BaseException) -> None:
        """Remove the unfinished file."""
        self._stack.__exit__(type(error), error, error.__traceback__)

    def _write_until(self, row: int) -> None:
        """Write the rows above `row`, in complete blocks except at the end of the raster."""
        end = row if row >= self.size[0] else row // BLOCK * BLOCK
        count = end - self._top
        if count <= 0:
            return
        from rasterio.windows import Window

        done = self._rows[:count]
        self.area += int((done == TARGET).sum())
        self.no_data += int((done == NO_DATA).sum())
        self._reduce(done == TARGET)
        self._raster.write(done, 1, window=Window(0, self._top, self.size[1], count))
        rest = self._rows[count:].copy()
        self._rows = np.zeros((min(self.size[0] - end, self._rows.shape[0]), self.size[1]), np.uint8)
        self._rows[: min(len(rest), len(self._rows))] = rest[: len(self._rows)]
        self._top = end

    def _reduce(self, mask: np.ndarray) -> None:
        """Add rows of the mask, bool [rows, W], to `small`."""
        height, width = self.small.shape
        columns = np.arange(mask.shape[1]) * width // mask.shape[1]
        rows = (self._top + np.arange(len(mask))) * height // self.size[0]
        by_column = np.logical_or.reduceat(mask, np.unique(columns, return_index=True)[1], axis=1)
        places, starts = np.unique(rows, return_index=True)
        self.small[places] |= np.logical_or.reduceat(by_column, starts, axis=0)


@contextmanager
def _created(
    path: Path, size: tuple[int, int], crs: str, transform: "Affine | None", name: str
) -> "Iterator[DatasetWriter]":
    """An empty GeoTIFF with a color table."""
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            **{"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": NO_DATA},
            **{"height": size[0], "width": size[1], "crs": crs or None, "transform": transform},
            **{"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK},
            **{"compress": "deflate", "photometric": "palette", "bigtiff": "if_safer"},
        ) as raster:
            raster.write_colormap(1, COLORS)
            raster.set_band_description(1, name)
            yield raster


def _counts(path: Path) -> tuple[int, int] | None:
    """The pixels of the mask in a file, and those without data; None if it cannot be read."""
    import rasterio
    from rasterio.windows import Window

    area = no_data = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            with rasterio.open(path, driver="GTiff") as raster:
                for top in range(0, raster.height, BLOCK):
                    rows = raster.read(
                        1, window=Window(0, top, raster.width, min(BLOCK, raster.height - top))
                    )
                    area += int((rows == TARGET).sum())
                    no_data += int((rows == NO_DATA).sum())
        except rasterio.errors.RasterioError:
            return None
    return area, no_data


def read_mask(path: Path) -> np.ndarray:
    """A mask that was written by MaskWriter, bool [H, W]."""
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            with rasterio.open(path, driver="GTiff") as raster:
                return raster.read(1) == TARGET
        except rasterio.errors.RasterioError as error:
            raise GeoClickError(f"{path} cannot be read ({first_line(error)}); predict it again.") from error
