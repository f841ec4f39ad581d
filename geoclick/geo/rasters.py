"""Reading GeoTIFFs: windows of three bands as 8-bit RGB, and the valid pixels.

Needs rasterio, from the extra `geo`.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick.errors import GeoClickError, UsageError, first_line
from geoclick.geo.tiles import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

PERCENTILES = (2.0, 98.0)
"""Percentiles of the values that become black and white by default."""

MAX_SIDE = 1 << 20
"""Longest side of a raster in pixels; the header of a broken file can claim any, and rows of it are in memory."""

STRETCH_SIDE = 1024
"""The percentiles of a stretch are computed on a raster reduced to this side, in pixels."""


def check_installed() -> None:
    """Raise GeoClickError unless the extra `geo` is installed."""
    try:
        import pyogrio  # noqa: F401
        import rasterio  # noqa: F401
        import shapely  # noqa: F401
    except ImportError as error:
        raise GeoClickError(
            f"Rasters with vector labels need {error.name or 'rasterio'}, which is not installed; "
            "run 'pip install geoclick[geo]'."
        ) from error


@contextmanager
def open_raster(path: Path, driver: str = "GTiff") -> "Iterator[DatasetReader]":
    """Open a GeoTIFF for reading; raises GeoClickError if it is missing, broken, another format or impossibly large.

    Other formats are not tried, since some refer to further files or addresses; `driver` names one that does not.
    """
    import rasterio

    with geoclick_errors(path), warnings.catch_warnings():
        # A georeference is checked where it is needed.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        raster = rasterio.open(path, driver=driver)
    with raster:
        if max(raster.shape) > MAX_SIDE:
            raise GeoClickError(
                f"{path} claims to be {raster.width:,} x {raster.height:,} pixels, and at most {MAX_SIDE:,} a side are "
                "read; cut it, or replace the file."
            )
        yield raster


@contextmanager
def geoclick_errors(path: Path | str) -> Iterator[None]:
    """Turn rasterio's errors into GeoClickError."""
    from rasterio.errors import RasterioError

    try:
        yield
    except RasterioError as error:
        raise GeoClickError(
            f"{path} cannot be read as a GeoTIFF ({first_line(error)}); replace or remove the file."
        ) from error


def choose_bands(raster: "DatasetReader", bands: Sequence[int] = ()) -> tuple[int, int, int]:
    """The numbers, from 1, of the bands that are shown as red, green and blue.

    Args:
        raster: an open raster.
        bands: three numbers, or one to show in gray. If empty: the bands marked as red, green and blue; otherwise the
            first three bands other than alpha; otherwise the first one in gray.

    Raises:
        UsageError: the raster has no such bands.
        GeoClickError: the raster has a palette or complex numbers.
    """
    from rasterio.enums import ColorInterp

    kinds = list(raster.colorinterp)
    if ColorInterp.palette in kinds:
        raise GeoClickError(
            f"{raster.name} has a palette; convert it to colors with 'gdal_translate -expand rgb'."
        )
    if bands:
        if len(bands) not in (1, 3) or not all(1 <= band <= raster.count for band in bands):
            raise UsageError(
                f"Bands must be one or three numbers of 1 to {raster.count} for {raster.name}, "
                f"not {' '.join(map(str, bands))}."
            )
        red, green, blue = tuple(bands) * (3 // len(bands))
    else:
        marked = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        shown = [number for number, kind in enumerate(kinds, start=1) if kind != ColorInterp.alpha] or [1]
        if all(kind in kinds for kind in marked):
            red, green, blue = (kinds.index(kind) + 1 for kind in marked)
        else:
            red, green, blue = shown[:3] if len(shown) > 2 else shown[:1] * 3
    if any(raster.dtypes[band - 1].startswith("complex") for band in (red, green, blue)):
        raise GeoClickError(f"{raster.name} holds complex numbers; write a file with their magnitude.")
    return red, green, blue


def stretch_limits(
    raster: "DatasetReader", bands: Sequence[int], percentiles: Sequence[float]
) -> np.ndarray | None:
    """The values that become black and white, float64 [bands, 2], the same for every window; None for 8-bit bands.

    They are percentiles of each band over the valid pixels of the raster, subsampled to STRETCH_SIDE; 0 and 255 if
    `percentiles` is empty. 8-bit values are shown as they are. Raises GeoClickError if the file is broken.
    """
    if all(raster.dtypes[band - 1] == "uint8" for band in bands):
        return None
    if not percentiles:
        return np.array([(0, 255)] * len(bands), dtype=np.float64)
    shape = subsampled(raster.shape)
    with geoclick_errors(raster.name):
        pixels = raster.read(list(bands), out_shape=(len(bands), *shape)).astype(np.float64)
        valid = raster.read_masks(list(bands), out_shape=(len(bands), *shape)) > 0
    return limits_of(pixels, valid & np.isfinite(pixels), percentiles)


def subsampled(shape: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an image that is reduced to STRETCH_SIDE at most."""
    shrink = max(1, max(shape) / STRETCH_SIDE)
    return max(1, round(shape[0] / shrink)), max(1, round(shape[1] / shrink))


def limits_of(pixels: np.ndarray, valid: np.ndarray, percentiles: Sequence[float]) -> np.ndarray:
    """The percentiles of the valid pixels of each band, float64 [bands, 2].

    Args:
        pixels: float64 [bands, H, W].
        valid: bool [bands, H, W].
        percentiles: the lower and the upper one.
    """
    limits = [
        np.percentile(p[v], percentiles) if v.any() else (0, 1) for p, v in zip(pixels, valid, strict=True)
    ]
    return np.array(limits, dtype=np.float64)


def to_bytes(pixels: np.ndarray, limits: np.ndarray | None) -> np.ndarray:
    """Values [bands, H, W] as uint8, scaled linearly between the limits of each band and clipped; NaN becomes 0."""
    if limits is None:
        return pixels.astype(np.uint8)
    # Halves, since the difference of two large floats can overflow; halving is exact.
    low, high = (limits[:, side, None, None] / 2 for side in (0, 1))
    span = np.where(high > low, high - low, 0.5)
    with np.errstate(over="ignore", invalid="ignore"):
        # A pixel far beyond the limits becomes infinite, and is clipped.
        scaled = np.clip((pixels.astype(np.float64) / 2 - low) / span, 0, 1)
    return (np.nan_to_num(scaled) * 255 + 0.5).astype(np.uint8)


def read_window(
    raster: "DatasetReader",
    window: Window,
    bands: Sequence[int],
    limits: np.ndarray | None,
    valid: np.ndarray | None,
) -> np.ndarray:
    """A window as uint8 [H, W, 3] RGB, black where there are no data.

    Args:
        raster: an open raster.
        window: the window to read.
        bands: three numbers, see `choose_bands`.
        limits: see `stretch_limits`.
        valid: the valid pixels of the window, see `read_valid`.

    Raises:
        GeoClickError: the file is broken.
    """
    with geoclick_errors(raster.name):
        pixels = raster.read(list(bands), window=_slices(window))
    image = to_bytes(pixels, limits).transpose(1, 2, 0)
    return np.ascontiguousarray(image if valid is None else image * valid[..., None])


def read_valid(raster: "DatasetReader", window: Window, bands: Sequence[int]) -> np.ndarray | None:
    """The pixels of a window that are valid in at least one band, bool [H, W]; None if all are.

    Invalid are the nodata value, pixels excluded by the file's mask or alpha band, and NaN. Raises GeoClickError if the
    file is broken.
    """
    numbers = sorted(set(bands))
    with geoclick_errors(raster.name):
        valid = raster.read_masks(numbers, window=_slices(window)) > 0
        if any(np.dtype(raster.dtypes[band - 1]).kind == "f" for band in numbers):
            valid &= np.isfinite(raster.read(numbers, window=_slices(window)))
    in_any_band = valid.any(axis=0)
    return None if in_any_band.all() else in_any_band


def _slices(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """A window in the form that rasterio takes."""
    return (
        (window.row, window.row + window.height),
        (window.column, window.column + window.width),
    )
