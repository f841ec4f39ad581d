"""Writing a large GeoTIFF of small whole numbers with a color table, row by row: tiled, compressed, checked."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick import files
from geoclick.errors import GeoClickError, first_line
from geoclick.geo.writing import NO_DATA

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.io import DatasetWriter

BLOCK = 256
"""Side of the blocks of the GeoTIFF in pixels; complete blocks are written once."""

Color = tuple[int, int, int]


class IndexWriter:
    """Writes a GeoTIFF of one band; the file gets its name when `close` has ended. NO_DATA is its nodata value.

    Args:
        path: of the GeoTIFF.
        size: (height, width).
        crs: as in `Georeference`; empty for none.
        transform: from pixels to coordinates, or None.
        colors: RGB of the values 0, 1, ...
        description: of the band.
        tags: of the band.

    Attributes:
        counts: pixels of each value that are written so far, int64 [256].
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        crs: str,
        transform: "Affine | None",
        *,
        colors: Mapping[int, Color],
        description: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.size = path, size
        self.counts = np.zeros(256, np.int64)
        self._top = 0
        self._rows: list[np.ndarray] = []
        files.refuse_link(path)
        self._stack = ExitStack()
        self._partial = self._stack.enter_context(files.whole(path))
        self._open = self._stack.enter_context(ExitStack())
        self._raster = self._open.enter_context(_created(self._partial, size, crs, transform))
        table = {value: (*color, 255) for value, color in colors.items()} | {NO_DATA: (0, 0, 0, 0)}
        self._raster.write_colormap(1, table)
        if description:
            self._raster.set_band_description(1, description)
        if tags:
            self._raster.update_tags(1, **tags)

    def write(self, rows: np.ndarray) -> None:
        """Write the next rows, uint8 [N, W]."""
        for top in range(0, len(rows), BLOCK):
            self.counts += np.bincount(rows[top : top + BLOCK].ravel(), minlength=256)
        self._rows.append(rows)
        waiting = sum(map(len, self._rows))
        last = self._top + waiting >= self.size[0]
        complete = waiting if last else waiting // BLOCK * BLOCK
        if complete:
            from rasterio.windows import Window

            joined = np.concatenate(self._rows)
            self._raster.write(joined[:complete], 1, window=Window(0, self._top, self.size[1], complete))
            self._top += complete
            self._rows = [joined[complete:].copy()]

    def close(self) -> None:
        """End the file, and compare it with what was written.

        Raises:
            OSError: they differ. GDAL writes blocks late, and does not say that the disk is full.
        """
        self._open.close()
        counts = _counts(self._partial)
        if counts is None or (counts != self.counts).any():
            error = files.incomplete(self.path)
            self.abort(error)
            raise error
        self._stack.close()

    def abort(self, error: BaseException) -> None:
        """Remove the unfinished file."""
        self._stack.__exit__(type(error), error, error.__traceback__)


@contextmanager
def _created(
    path: Path, size: tuple[int, int], crs: str, transform: "Affine | None"
) -> "Iterator[DatasetWriter]":
    """An empty GeoTIFF for a color table."""
    import rasterio

    with (
        _without_warnings(),
        rasterio.open(
            path,
            "w",
            **{"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": NO_DATA},
            **{"height": size[0], "width": size[1], "crs": crs or None, "transform": transform},
            **{"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK},
            **{"compress": "deflate", "photometric": "palette", "bigtiff": "if_safer"},
        ) as raster,
    ):
        yield raster


def _counts(path: Path) -> np.ndarray | None:
    """The pixels of each value in a file, int64 [256]; None if it cannot be read."""
    import rasterio
    from rasterio.windows import Window

    counts = np.zeros(256, np.int64)
    with _without_warnings():
        try:
            with rasterio.open(path, driver="GTiff") as raster:
                for top in range(0, raster.height, BLOCK):
                    rows = min(BLOCK, raster.height - top)
                    part = raster.read(1, window=Window(0, top, raster.width, rows))
                    counts += np.bincount(part.ravel(), minlength=256)
        except rasterio.errors.RasterioError:
            return None
    return counts


def read(path: Path) -> np.ndarray:
    """The values of a file that was written by IndexWriter, uint8 [H, W]."""
    import rasterio

    with _without_warnings():
        try:
            with rasterio.open(path, driver="GTiff") as raster:
                values: np.ndarray = raster.read(1)
                return values
        except rasterio.errors.RasterioError as error:
            raise GeoClickError(f"{path} cannot be read ({first_line(error)}); predict it again.") from error


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Without the warning of a missing georeference."""
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield
