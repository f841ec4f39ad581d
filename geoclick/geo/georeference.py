"""Where a GeoTIFF or JPEG 2000 lies and which of its pixels have data, in the frame of the image of `read_image`."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick.geo import rasters, reading
from geoclick.geo.tiles import Window

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.io import DatasetReader

DRIVERS = ("GTiff", "JP2OpenJPEG")
"""GDAL's drivers of the formats that say themselves where they lie."""


@dataclass(frozen=True, eq=False)
class Georeference:
    """The place of an image.

    Attributes:
        crs: its coordinate reference system, as an authority code or WKT; empty if the place is unknown.
        transform: from (column, row) in pixels, (0, 0) the outer corner of the first one, to coordinates; None if the
            place is unknown.
        valid: the pixels with data, bool [H, W]; None if all have some.
        problem: why the place is unknown, as a part of a sentence; else empty.
    """

    crs: str
    transform: "Affine | None"
    valid: np.ndarray | None
    problem: str = ""


def read(path: Path, bands: Sequence[int] = ()) -> Georeference | None:
    """The place of an image file, or None if it is neither TIFF nor JPEG 2000.

    Args:
        path: an image that `read_image` can read.
        bands: the bands that are shown, as in `rasters.choose_bands`; a pixel has data if one of them has.

    Raises:
        GeoClickError: the file is broken.
    """
    driver = reading.driver_of(path)
    if driver not in DRIVERS:
        return None
    if importlib.util.find_spec("rasterio") is None or importlib.util.find_spec("pyogrio") is None:
        return Georeference(
            "", None, None, "polygons and pixels without data need 'pip install geoclick[geo]'"
        )
    orientation = reading.orientation_of(path)
    with rasters.open_raster(path, driver) as raster:
        valid = _valid(raster, bands)
        crs, transform, problem = place_of(raster)
    if valid is not None:
        valid = reading.upright(valid, orientation)
    if orientation != 1:
        return Georeference(
            "", None, valid, f"its EXIF orientation {orientation} contradicts its georeference"
        )
    return Georeference(crs, transform, valid, problem)


def place_of(raster: "DatasetReader") -> "tuple[str, Affine | None, str]":
    """`crs`, `transform` and `problem` of an open raster, as in Georeference."""
    crs, transform = raster.crs, raster.transform
    if crs is None or transform.is_identity or not transform.determinant:
        return "", None, "it is not georeferenced"
    return crs.to_string(), transform, ""


def _valid(raster: "DatasetReader", bands: Sequence[int]) -> np.ndarray | None:
    """The pixels that are valid in at least one band, bool [H, W]; None if all are."""
    from rasterio.enums import ColorInterp

    palette = ColorInterp.palette in raster.colorinterp
    shown = (1,) if palette else rasters.choose_bands(raster, bands)
    height, width = raster.shape
    valid = np.ones((height, width), bool)
    for top in range(0, height, reading.ROWS):
        rows = min(reading.ROWS, height - top)
        part = rasters.read_valid(raster, Window(top, 0, rows, width), shown)
        if part is not None:
            valid[top : top + rows] = part
    return None if valid.all() else valid
