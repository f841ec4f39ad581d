"""GeoTIFFs as pictures: windows of three bands as 8 bits, and the pixels that hold data.

rasterio comes with the extra `geo`.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick.errors import GeoClickError, UsageError
from geoclick.geo.tiles import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

STRETCH_SIDE = 1024
"""The percentiles of a stretch are taken on a raster shrunk to this side, in pixels."""


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
def open_raster(path: Path) -> "Iterator[DatasetReader]":
    """A GeoTIFF open for reading; raises GeoClickError when it is missing, broken or none.

    Other formats are not tried: some name further files or addresses, whatever the file is called.
    """
    import rasterio

    with _explained(path), warnings.catch_warnings():
        # Whether it says where it lies is for those to ask who need it.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        raster = rasterio.open(path, driver="GTiff")
    with raster:
        yield raster


@contextmanager
def _explained(path: Path | str) -> Iterator[None]:
    """Turn rasterio's errors into GeoClickError."""
    from rasterio.errors import RasterioError

    try:
        yield
    except RasterioError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise GeoClickError(
            f"{path} cannot be read as a GeoTIFF ({reason}); replace or remove the file."
        ) from error


def choose_bands(raster: "DatasetReader", bands: Sequence[int] = ()) -> tuple[int, int, int]:
    """The numbers, from 1, of the bands that are shown as red, green and blue.

    Args:
        raster: an open raster.
        bands: three numbers, or one to show in grey. When empty: the bands marked as red, green and blue, else the
            first three that are not transparency, else the first one in grey.

    Raises:
        UsageError: there are no such bands.
        GeoClickError: the raster has a palette or complex numbers.
    """
    from rasterio.enums import ColorInterp

    kinds = list(raster.colorinterp)
    if ColorInterp.palette in kinds:
        raise GeoClickError(
            f"{raster.name} has a palette; write it out in colors with 'gdal_translate -expand rgb'."
        )
    if bands:
        if len(bands) not in (1, 3) or not all(1 <= band <= raster.count for band in bands):
            raise UsageError(
                f"Bands must be one or three numbers of 1 to {raster.count} for {raster.name}, "
                f"not {' '.join(map(str, bands))}."
            )
        chosen = tuple(bands) * (3 // len(bands))
    else:
        marked = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        shown = [number for number, kind in enumerate(kinds, start=1) if kind != ColorInterp.alpha] or [1]
        if all(kind in kinds for kind in marked):
            chosen = tuple(kinds.index(kind) + 1 for kind in marked)
        else:
            chosen = tuple(shown[:3]) if len(shown) > 2 else (shown[0],) * 3
    if any(raster.dtypes[band - 1].startswith("complex") for band in chosen):
        raise GeoClickError(f"{raster.name} holds complex numbers; write out their magnitude.")
    return chosen


def stretch_limits(
    raster: "DatasetReader", bands: Sequence[int], percentiles: tuple[float, float]
) -> np.ndarray | None:
    """The values that become black and white, float64 [bands, 2], the same for every window; None for 8 bits.

    They are percentiles of each band over the valid pixels of the raster shrunk to STRETCH_SIDE by leaving pixels
    out. Bytes are shown as they are. Raises GeoClickError when the file is broken.
    """
    if all(raster.dtypes[band - 1] == "uint8" for band in bands):
        return None
    shrink = max(1, max(raster.shape) / STRETCH_SIDE)
    shape = tuple(max(1, round(side / shrink)) for side in raster.shape)
    with _explained(raster.name):
        pixels = raster.read(list(bands), out_shape=(len(bands), *shape)).astype(np.float64)
        valid = raster.read_masks(list(bands), out_shape=(len(bands), *shape)) > 0
    valid &= np.isfinite(pixels)
    limits = [
        np.percentile(p[v], percentiles) if v.any() else (0, 1) for p, v in zip(pixels, valid, strict=True)
    ]
    return np.array(limits, dtype=np.float64)


def to_bytes(pixels: np.ndarray, limits: np.ndarray | None) -> np.ndarray:
    """Numbers [bands, H, W] as uint8, linear between the limits of each band and cut beyond; NaN is 0."""
    if limits is None:
        return pixels.astype(np.uint8)
    low, high = (limits[:, side, None, None] for side in (0, 1))
    span = np.where(high > low, high - low, 1)
    share = np.clip((pixels.astype(np.float64) - low) / span, 0, 1)
    return (np.nan_to_num(share) * 255 + 0.5).astype(np.uint8)


def read_window(
    raster: "DatasetReader",
    window: Window,
    bands: Sequence[int],
    limits: np.ndarray | None,
    valid: np.ndarray | None,
) -> np.ndarray:
    """A window as uint8 [H, W, 3] RGB, black where there is no data.

    Args:
        raster: an open raster.
        window: a part of it.
        bands: three numbers, see `choose_bands`.
        limits: see `stretch_limits`.
        valid: the pixels of the window that hold data, see `read_valid`.

    Raises:
        GeoClickError: the file is broken there.
    """
    with _explained(raster.name):
        pixels = raster.read(list(bands), window=_slices(window))
    image = to_bytes(pixels, limits).transpose(1, 2, 0)
    return np.ascontiguousarray(image if valid is None else image * valid[..., None])


def read_valid(raster: "DatasetReader", window: Window, bands: Sequence[int]) -> np.ndarray | None:
    """The pixels of a window that hold data in one of the bands, bool [H, W], or None when all do.

    What holds none: the value that the file names as nodata, what its mask or its transparency leaves out, and NaN.
    Raises GeoClickError when the file is broken there.
    """
    numbers = sorted(set(bands))
    with _explained(raster.name):
        valid = raster.read_masks(numbers, window=_slices(window)) > 0
        if any(np.dtype(raster.dtypes[band - 1]).kind == "f" for band in numbers):
            valid &= np.isfinite(raster.read(numbers, window=_slices(window)))
    found = valid.any(axis=0)
    return None if found.all() else found


def _slices(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """A window as rasterio takes it."""
    return (
        (window.row, window.row + window.height),
        (window.column, window.column + window.width),
    )
