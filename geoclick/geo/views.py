"""Windows of a GeoTIFF or JPEG 2000 read from the file, at its own or a coarser resolution.

A window has the pixels that `reading.read_image` gives for the same file, which is never in memory as a whole. Only
files that need Pillow's conversions, such as palettes, CMYK and values of 1 bit, are read at once. Needs the extra
`geo`.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from geoclick.errors import GeoClickError
from geoclick.geo import georeference, rasters, reading, tiles, vectors, writing
from geoclick.geo.reading import PixelOptions
from geoclick.geo.tiles import Window

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.io import DatasetReader
    from rasterio.windows import Window as RasterWindow

CACHE = 128
"""GDAL's cache of raster blocks in MB; by default it takes a share of the machine's memory."""

AS_IT_IS = ("MINISBLACK", "RGB", "YCBCR")
"""TIFF's photometric interpretations whose 8-bit bands are shown without a conversion."""


@dataclass(frozen=True, eq=False)
class RasterView:
    """An open raster, seen at one resolution.

    Attributes:
        path: the file.
        full_size: (height, width) of the raster.
        size: (height, width) of the view.
        crs: as in `Georeference`.
        transform: from pixels of the view to coordinates; None if the place is unknown.
        problem: why the place is unknown, as a part of a sentence; else empty.
        raster: the open file.
        bands: the bands that are shown.
        limits: of the stretch, from the complete raster, see `rasters.stretch_limits`.
        blacken: whether pixels without data are shown black, as `read_image` shows them in this file.
        pixels: the complete image, uint8 [H, W, 3], of files that are read at once; else None.
    """

    path: Path
    full_size: tuple[int, int]
    size: tuple[int, int]
    crs: str
    transform: "Affine | None"
    problem: str
    raster: "DatasetReader"
    bands: tuple[int, ...]
    limits: np.ndarray | None
    blacken: bool
    pixels: np.ndarray | None

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the raster in one pixel of the view, by rows and by columns; 1 at the raster's resolution."""
        return self.full_size[0] / self.size[0], self.full_size[1] / self.size[1]

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """A window of the view: uint8 [H, W, 3] RGB, and the pixels with data, bool [H, W]; None if all have some.

        Raises GeoClickError if the file is broken.
        """
        if self.size == self.full_size:
            valid = rasters.read_valid(self.raster, window, self.bands)
            if self.pixels is not None:
                return tiles.crop(self.pixels, window), valid
            shown = valid if self.blacken else None
            return rasters.read_window(self.raster, window, self.bands, self.limits, shown), valid
        return self.read_reduced(window, (window.height, window.width))

    def overview(self, longest: int) -> np.ndarray:
        """The complete view with its longer side reduced to at most `longest` pixels, uint8 [h, w, 3] RGB."""
        shrink = max(1.0, max(self.size) / longest)
        height, width = (max(1, round(side / shrink)) for side in self.size)
        return self.read_reduced(Window(0, 0, *self.size), (height, width))[0]

    def read_reduced(self, window: Window, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
        """As `read`, reduced to `size` (height, width): means of the pixels, from the overviews of the file if any."""
        rows, columns = self.scale
        top, left = window.row * rows, window.column * columns
        height, width = window.height * rows, window.width * columns
        from rasterio.windows import Window as RasterWindow

        part = RasterWindow(left, top, width, height)
        values, valid = _read_means(self.raster, self.bands, part, size)
        if self.pixels is not None:
            box = (left, top, left + width, top + height)
            whole = Image.fromarray(self.pixels)
            return np.asarray(whole.resize(size[::-1], Image.Resampling.BOX, box=box)), valid
        image = rasters.to_bytes(values, self.limits).transpose(1, 2, 0)
        if self.blacken and valid is not None:
            image = image * valid[..., None]
        return np.ascontiguousarray(image), valid


def can_open(path: Path) -> bool:
    """Whether a file is a TIFF or JPEG 2000 whose windows can be read: upright, with the extra `geo` installed."""
    if reading.driver_of(path) not in georeference.DRIVERS:
        return False
    if importlib.util.find_spec("rasterio") is None or importlib.util.find_spec("pyogrio") is None:
        return False
    return reading.orientation_of(path) == 1


@contextmanager
def small_cache() -> Iterator[None]:
    """Limit GDAL's cache to CACHE for the files that are opened in the block."""
    if importlib.util.find_spec("rasterio") is None:
        yield
        return
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=CACHE):
        yield


@contextmanager
def open_view(path: Path, pixels: PixelOptions, resolution: float | None = None) -> "Iterator[RasterView]":
    """Open a raster for which `can_open` holds.

    Args:
        path: the file.
        pixels: bands and stretch.
        resolution: side of a pixel of the view on the ground in meters; None, or one below the raster's own, takes the
            raster's own.

    Raises:
        GeoClickError: the file is broken, or has no place on Earth that a resolution needs.
        UsageError: it has no such bands.
    """
    with rasters.open_raster(path, reading.driver_of(path) or "GTiff") as raster:
        from affine import Affine

        whole = None if _is_plain(raster) else reading.read_image(path, pixels=pixels)
        bands = (1,) if whole is not None else rasters.choose_bands(raster, pixels.bands)
        limits = None if whole is not None else rasters.stretch_limits(raster, bands, pixels.stretch)
        crs, transform, problem = georeference.place_of(raster)
        full = (raster.height, raster.width)
        size = full if resolution is None else _reduced_size(path, full, crs, transform, resolution)
        if transform is not None:
            x, y = full[1] / size[1], full[0] / size[0]
            a, b, c, d, e, f = transform[:6]
            transform = Affine(a * x, b * y, c, d * x, e * y, f)
        yield RasterView(
            path=path,
            full_size=full,
            size=size,
            crs=crs,
            transform=transform,
            problem=problem,
            raster=raster,
            bands=bands,
            limits=limits,
            blacken=not reading.pillow_shows(path),
            pixels=whole,
        )


def no_place(path: Path) -> GeoClickError:
    """The error for an image whose resolution is unknown."""
    return GeoClickError(f"{path} has no place on Earth, which --resolution needs; leave it out.")


def _is_plain(raster: "DatasetReader") -> bool:
    """Whether the bands of a raster are shown as they are, or stretched, without a conversion of colors."""
    from rasterio.enums import ColorInterp

    if ColorInterp.palette in raster.colorinterp:
        return False
    if any(dtype != "uint8" for dtype in raster.dtypes):
        return True
    photometric = raster.photometric
    bits = raster.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", "8")
    return bits == "8" and (photometric is None or photometric.name.upper() in AS_IT_IS)


def _reduced_size(
    path: Path, size: tuple[int, int], crs: str, transform: "Affine | None", resolution: float
) -> tuple[int, int]:
    """The (height, width) at which a pixel of a raster of `size` has a side of `resolution` meters on the ground."""
    own = float("nan") if transform is None else ground_pixel(size, crs, transform)
    if not np.isfinite(own):
        raise no_place(path)
    shrink = max(1.0, resolution / own)
    return max(1, round(size[0] / shrink)), max(1, round(size[1] / shrink))


def ground_pixel(size: tuple[int, int], crs: str, transform: "Affine") -> float:
    """The side of the central pixel on the ground in meters: the root of its area; NaN without a place on Earth.

    Args:
        size: (height, width) of the raster.
        crs: its coordinate reference system.
        transform: from pixels to coordinates.
    """
    import shapely

    row, column = size[0] // 2, size[1] // 2
    corners = vectors.apply(transform, column + np.array([0, 1, 1, 0]), row + np.array([0, 0, 1, 1]))
    shapes = np.array([shapely.Polygon(corners)], object)
    return float(writing.ground_areas(shapes, crs, np.inf)[0] ** 0.5)


def _read_means(
    raster: "DatasetReader", bands: tuple[int, ...], part: "RasterWindow", size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """A part of a raster reduced to `size`: means [bands, h, w], and the pixels with data; None if all have some."""
    from rasterio.enums import Resampling

    numbers = list(bands)
    shape = (len(numbers), *size)
    with rasters.geoclick_errors(raster.name):
        values = raster.read(numbers, window=part, out_shape=shape, resampling=Resampling.average)
        valid = raster.read_masks(numbers, window=part, out_shape=shape) > 0
    if values.dtype.kind == "f":
        valid &= np.isfinite(values)
    in_any = valid.any(axis=0)
    return values, None if in_any.all() else in_any
