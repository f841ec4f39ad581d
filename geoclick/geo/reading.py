"""The one reader of images, so that every command sees the same pixels of a file.

Images of 8 bits are taken as they are. Values of more bits are scaled to 8 bits, by band: `PixelOptions.stretch` names
the percentiles of the valid pixels that become black and white, by the same rule for GeoTIFFs cut to tiles. Files that
Pillow cannot read go through rasterio, from the extra `geo`. All images are turned upright by their EXIF orientation,
and their size is that of the upright image.
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from PIL import Image, ImageOps

from geoclick import files, images
from geoclick.errors import GeoClickError, UsageError, first_line
from geoclick.geo import rasters, tiles
from geoclick.geo.tiles import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

ORIENTATION = 0x0112
"""The EXIF tag of the orientation."""

BITS_PER_SAMPLE, SAMPLE_FORMAT, NODATA = 258, 339, 42113
"""Tags of TIFF; the last one is GDAL's."""

UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda image: image[::-1, ::-1],
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""How an image [H, W, ...] of an EXIF orientation is turned upright."""

SIGNATURES = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\x89PNG": "PNG",
    b"\0\0\0\x0c": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
}
"""GDAL's driver for the files with these first bytes; none of the drivers opens further files or addresses."""

CODESTREAM = b"\xff\x4f\xff\x51"
"""Start of the pixels of a JPEG 2000 file; their properties follow."""

HEADER = 1 << 16
"""Bytes in which the header of a JPEG 2000 file ends."""

CHANNELS = ("L", "LA", "RGB", "RGBA", "RGBX", "CMYK")
"""Pillow's modes whose channels are the bands of the file."""

ROWS = 512
"""Rows that are stretched at a time, which saves memory."""


@dataclass(frozen=True)
class PixelOptions:
    """How the values of a file become 8-bit RGB.

    Attributes:
        bands: bands shown as red, green and blue, counted from 1; a single one is shown in gray; empty takes those that
            the file marks, otherwise the first three, otherwise the first one.
        stretch: percentiles of the valid pixels of each band that become black and white, for values of more than
            8 bits; empty takes the values as they are, clipped to 0 to 255.
    """

    bands: tuple[int, ...] = ()
    stretch: tuple[float, ...] = rasters.PERCENTILES


DEFAULT = PixelOptions()


class RecordedRule(TypedDict, total=False):
    """Bands and stretch as records hold them; empty where images were read by the default rule."""

    bands: list[int]
    stretch: list[float]


def recorded_rule(record: Mapping[str, Any]) -> PixelOptions:
    """How the images of a click store, an evaluation or an adapter were shown; the default where nothing is recorded.

    Args:
        record: with `bands` and `stretch`, and `dataset`: the tiles of rasters are written as they are shown.
    """
    if record.get("dataset") == "raster":
        return DEFAULT
    bands, stretch = record.get("bands") or (), record.get("stretch")
    return PixelOptions(tuple(bands), DEFAULT.stretch if stretch is None else tuple(map(float, stretch)))


def read_recorded(
    root: Path, image: str, size: tuple[int, int], pixels: PixelOptions = DEFAULT
) -> np.ndarray:
    """An image of a record as `read_image`; tiles, which are written as they are shown, by the default rule.

    Args:
        root: the dataset's folder.
        image: path relative to it; raises GeoClickError if it leads out of it.
        size: its (height, width).
        pixels: see `recorded_rule`.
    """
    path = files.inside(root, image)
    return read_image(path, size=size, pixels=DEFAULT if tiles.is_tile(image) else pixels)


class NeedsRasterio(GeoClickError):
    """A file that only rasterio reads, which is not installed."""


def read_image(
    path: str | Path, *, size: tuple[int, int] | None = None, pixels: PixelOptions = DEFAULT
) -> np.ndarray:
    """An image file as uint8 [H, W, 3] RGB, upright.

    Args:
        path: the file.
        size: required (height, width); None accepts any.
        pixels: the bands, and how values of more than 8 bits are scaled.

    Raises:
        GeoClickError: the file is missing, truncated, no image, too large, or has another size.
        UsageError: it lacks a band.
    """
    path = Path(path)
    driver = driver_of(path)
    try:
        image = _with_pillow(path, driver, pixels)
    except (UsageError, NeedsRasterio):
        raise
    except GeoClickError as error:
        if driver is None or driver == "PNG":
            raise
        with _broken_as(error):
            image = _with_rasterio(path, driver, pixels, reason=error)
    if size is not None and image.shape[:2] != tuple(size):
        raise GeoClickError(
            f"{path} is {image.shape[1]}x{image.shape[0]} pixels but its mask is {size[1]}x{size[0]}; "
            f"make them the same size.{turned(image.shape, size)}"
        )
    return image


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright image, from its header; raises GeoClickError if it has none."""
    driver = driver_of(path)
    try:
        with images.opened(path) as image:
            # Pillow turns TIFFs itself.
            sideways = image.format != "TIFF" and _orientation(image, path) >= 5
            return (image.width, image.height) if sideways else (image.height, image.width)
    except GeoClickError as error:
        if driver is None or driver == "PNG":
            raise
        _check_rasterio(path, error)
        with _broken_as(error), rasters.open_raster(path, driver) as raster:
            return raster.height, raster.width


def from_pillow(image: Image.Image, pixels: PixelOptions = DEFAULT) -> np.ndarray:
    """An image that is open in Pillow as uint8 [H, W, 3] RGB, upright; arguments and errors as in `read_image`."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        return _stretched(upright, Path("the image"), pixels)
    return _eight_bits(upright, Path("the image"), pixels.bands)


def turned(size: tuple[int, ...], other: tuple[int, ...]) -> str:
    """A hint for a message that two sizes differ, if a quarter turn makes them equal; otherwise empty."""
    if tuple(size[:2]) != tuple(other[1::-1]):
        return ""
    return " Images are read upright, by their EXIF orientation; masks and boxes must be upright too."


def driver_of(path: Path) -> str | None:
    """GDAL's driver for a file, by its first bytes; None if there is none that is used."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return SIGNATURES.get(file.read(4))
    except (OSError, ValueError):
        return None


def _with_pillow(path: Path, driver: str | None, pixels: PixelOptions) -> np.ndarray:
    """The image as Pillow reads it; values of more than 8 bits as rasterio reads them, where it is installed."""
    with images.opened(path) as image:
        orientation = _orientation(image, path)
        if not _is_deep(image, path):
            array = _eight_bits(image, path, pixels.bands)
            return array if image.format == "TIFF" else upright(array, orientation)
        native = image.mode in ("I", "F") or image.mode.startswith("I;16")
        if native and (driver is None or not _has_rasterio()):
            array = _stretched(image, path, pixels)
            return array if image.format == "TIFF" else upright(array, orientation)
    if driver is None:
        raise GeoClickError(f"{path} has more than 8 bits per value; convert it to a GeoTIFF.")
    reason = GeoClickError("it has several bands of more than 8 bits")
    return upright(_with_rasterio(path, driver, pixels, reason=reason), orientation)


def pillow_shows(path: Path) -> bool:
    """Whether `read_image` takes a file from Pillow, which shows pixels without data as they are, not black."""
    try:
        with images.opened(path) as image:
            return not _is_deep(image, path)
    except GeoClickError as error:
        return isinstance(error.__cause__, Image.DecompressionBombError)


def orientation_of(path: Path) -> int:
    """The EXIF orientation by which `read_image` turns an image, 1 to 8; 1 if it turns none."""
    try:
        with images.opened(path) as image:
            return _orientation(image, path)
    except GeoClickError:  # only rasterio reads it, which does not turn images
        return 1


def _orientation(image: Image.Image, path: Path) -> int:
    """The EXIF orientation of an open image, 1 to 8; 1 if it has none or a broken one. Does not decode the pixels."""
    try:
        recorded = {"exif", "Raw profile type exif"} & set(image.info)
        if image.format == "PNG" and not recorded and not _has_late_exif(path):
            return 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken records
            orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow's parser raises many types for broken records
        return 1
    return orientation if orientation in UPRIGHT else 1


def _has_late_exif(path: Path) -> bool:
    """Whether a PNG has an EXIF record, which Pillow sees only after it has decoded the pixels if it follows them."""
    with path.open("rb") as file:
        file.seek(8)
        while len(start := file.read(8)) == 8:
            if start[4:] == b"eXIf":
                return True
            file.seek(int.from_bytes(start[:4]) + 4, 1)
    return False


def _is_deep(image: Image.Image, path: Path) -> bool:
    """Whether the values of an open image have more than 8 bits or a sign."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return True
    if image.format == "PNG":
        return any(";16" in str(tile) for tile in image.tile)  # type: ignore[attr-defined]
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits, formats = tags.get(BITS_PER_SAMPLE, (1,)), tags.get(SAMPLE_FORMAT, (1,))
        return max(bits) > 8 or any(number in (2, 3) for number in formats)
    if image.format == "JPEG2000":
        return _jpeg2000_bits(path) > 8
    return False


def _jpeg2000_bits(path: Path) -> int:
    """The largest number of bits of a component of a JPEG 2000 file; 8 if its header is not understood."""
    with path.open("rb") as file:
        header = file.read(HEADER)
    start = header.find(CODESTREAM)
    # After the marker: length, capabilities, eight numbers of 4 bytes, the number of components, 3 bytes of each.
    parts = header[start + 40 :] if start >= 0 else b""
    count = int.from_bytes(parts[:2])
    bits = parts[2 : 2 + 3 * count : 3]
    return max(((value & 0x7F) + 1 for value in bits), default=8)


def _eight_bits(image: Image.Image, path: Path, bands: tuple[int, ...]) -> np.ndarray:
    """An open image of 8 bits as uint8 [H, W, 3] RGB."""
    if not bands:
        return np.asarray(image.convert("RGB"))
    values = np.asarray(image if image.mode in CHANNELS else image.convert("RGB"))
    values = values.reshape(*values.shape[:2], -1)
    _check_bands(bands, values.shape[2], path)
    return np.ascontiguousarray(values[..., [band - 1 for band in bands * (3 // len(bands))]])


def _stretched(image: Image.Image, path: Path, pixels: PixelOptions) -> np.ndarray:
    """An open image of one band of more than 8 bits as uint8 [H, W, 3] RGB, by the rule of `rasters`."""
    _check_bands(pixels.bands or (1,), 1, path)
    values = np.asarray(image)[None]
    valid = np.isfinite(values)
    if image.format == "TIFF":
        valid &= values != _nodata(image)
    limits = np.array([(0, 255)], np.float64)
    if pixels.stretch:
        height, width = rasters.subsampled(values.shape[1:])
        # The pixels that GDAL takes for a reduced raster.
        rows = ((np.arange(height) + 0.5) * values.shape[1] / height).astype(int)
        columns = ((np.arange(width) + 0.5) * values.shape[2] / width).astype(int)
        sampled = np.ix_([0], rows, columns)
        limits = rasters.limits_of(values[sampled].astype(np.float64), valid[sampled], pixels.stretch)
    gray = _to_bytes(values, limits)[..., 0] * valid[0]
    return np.repeat(gray[..., None], 3, axis=2)


def _nodata(image: Image.Image) -> float:
    """The value of a TIFF's pixels without data; NaN if it names none."""
    try:
        return float(str(image.tag_v2[NODATA]).strip("\0 "))  # type: ignore[attr-defined]
    except (KeyError, ValueError):
        return float("nan")


def _with_rasterio(path: Path, driver: str, pixels: PixelOptions, *, reason: GeoClickError) -> np.ndarray:
    """The image as rasterio reads it, not turned upright.

    Args:
        path: the file.
        driver: GDAL's driver.
        pixels: as in `read_image`.
        reason: why Pillow cannot read it.
    """
    _check_rasterio(path, reason)
    with rasters.open_raster(path, driver) as raster:
        height, width = raster.shape
        if height * width > images.MAX_PIXELS:
            raise images.too_large(path)
        bands = rasters.choose_bands(raster, pixels.bands)
        limits = rasters.stretch_limits(raster, bands, pixels.stretch)
        parts = [
            _rows(raster, Window(top, 0, min(ROWS, height - top), width), bands, limits)
            for top in range(0, height, ROWS)
        ]
    return np.concatenate(parts)


def _rows(
    raster: "DatasetReader", window: Window, bands: tuple[int, int, int], limits: np.ndarray | None
) -> np.ndarray:
    """Some rows of a raster as uint8 [H, W, 3] RGB."""
    return rasters.read_window(raster, window, bands, limits, rasters.read_valid(raster, window, bands))


def _to_bytes(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Values [bands, H, W] as uint8 [H, W, bands], in blocks of rows."""
    blocks = range(0, values.shape[1], ROWS)
    parts = [rasters.to_bytes(values[:, top : top + ROWS], limits) for top in blocks]
    return np.concatenate(parts, axis=1).transpose(1, 2, 0)


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image [H, W, ...] of an EXIF orientation, turned upright."""
    return np.ascontiguousarray(UPRIGHT[orientation](image)) if orientation in UPRIGHT else image


def _check_bands(bands: tuple[int, ...], count: int, path: Path) -> None:
    if len(bands) not in (1, 3) or not all(1 <= band <= count for band in bands):
        raise UsageError(
            f"Bands must be one or three numbers of 1 to {count} for {path}, not {' '.join(map(str, bands))}."
        )


@contextmanager
def _broken_as(error: GeoClickError) -> Iterator[None]:
    """Raise `error`, Pillow's, for a file that GDAL cannot read either."""
    try:
        yield
    except GeoClickError as second:
        from rasterio.errors import RasterioError

        raise error if isinstance(second.__cause__, RasterioError) else second from second.__cause__


def _has_rasterio() -> bool:
    return importlib.util.find_spec("rasterio") is not None


def _check_rasterio(path: Path, reason: GeoClickError) -> None:
    """Raise NeedsRasterio unless it is installed."""
    if not _has_rasterio():
        raise NeedsRasterio(
            f"{path} cannot be read by Pillow ({_detail(reason)}); run 'pip install "
            "geoclick[geo]', which reads it with rasterio, or replace the file if it is broken."
        ) from reason


def _detail(reason: GeoClickError) -> str:
    """Pillow's message where there is one."""
    return first_line(reason.__cause__ if isinstance(reason.__cause__, Exception) else reason)
