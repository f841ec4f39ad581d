"""Label files of the semantic benchmarks, with one channel or three, as maps of class numbers."""

from pathlib import Path

import numpy as np

from geoclick import images
from geoclick.datasets.benchmarks import Benchmark, Layout
from geoclick.errors import GeoClickError

IGNORED = 255
"""Marks pixels that are not scored: ignored by the benchmark, or of an unknown value."""

OTHER = 253
"""Marks pixels of no class, in datasets with a single class and no background class."""

_UNKNOWN = 254


def read_class_map(path: Path, benchmark: Benchmark, layout: Layout) -> tuple[np.ndarray, int]:
    """Decode a label file.

    A label with one channel holds class values. So does one with a palette: the palette is for display only, and some
    tools write an entirely black one. A label with three channels holds colors.

    Args:
        path: the file.
        benchmark: defines the values and colors.
        layout: layout of the folders in which the file was found.

    Returns:
        The map, uint8 [H, W], of class numbers, OTHER and IGNORED, and the number of pixels with unknown values or
        colors, which are IGNORED.

    Raises:
        GeoClickError: the file cannot be read, or is no label of this benchmark.
    """
    if layout.foreground is not None:
        foreground = _read(path, black_and_white=layout.foreground > 1) >= layout.foreground
        one, other = (1, 0) if len(benchmark.classes) == 2 else (0, OTHER)
        return np.where(foreground, one, other).astype(np.uint8), 0
    pixels = _read(path)
    if pixels.ndim == 3 and not benchmark.palette:
        raise GeoClickError(
            f"{path} is a color image, but a label of {benchmark.title} has one channel with the class of each "
            "pixel; replace it by the file of class values."
        )
    classes = _of_values(pixels, benchmark) if pixels.ndim == 2 else _of_colors(pixels, benchmark)
    unknown = classes == _UNKNOWN
    if unknown.all():
        raise GeoClickError(
            f"{path} has no value or color of a class of {benchmark.title}; replace it by a label of that dataset."
        )
    classes[unknown] = IGNORED
    return classes, int(np.count_nonzero(unknown))


def _read(path: Path, *, black_and_white: bool | None = None) -> np.ndarray:
    """The pixels of a label.

    Args:
        path: the file.
        black_and_white: None returns values [H, W] or colors, uint8 [H, W, 3], as stored; True converts what the
            image looks like to gray; False does so for several channels only.
    """
    with images.opened(path) as image:
        channels = len(image.getbands())
        if black_and_white or (black_and_white is False and channels > 1):
            return np.asarray(image.convert("L"))
        return np.asarray(image if channels == 1 else image.convert("RGB"))


def _of_values(values: np.ndarray, benchmark: Benchmark) -> np.ndarray:
    """The class map of values [H, W] of any type."""
    count = len(benchmark.classes)
    table = np.full(257, _UNKNOWN, np.uint8)
    table[benchmark.first_value : benchmark.first_value + count] = np.arange(count)
    table[list(benchmark.ignored_values)] = IGNORED
    if values.dtype != np.uint8:
        # Negative values become -1, the last entry of the table, and larger ones 256, the same entry.
        values = np.clip(values, -1, 256).astype(np.int16)
    return table[values]


def _of_colors(colors: np.ndarray, benchmark: Benchmark) -> np.ndarray:
    """The class map of colors, uint8 [H, W, 3]."""
    red, green, blue = np.moveaxis(colors.astype(np.int32), -1, 0)
    codes = red << 16 | green << 8 | blue
    classes = np.full(codes.shape, _UNKNOWN, np.uint8)
    known = [(color, number) for number, color in enumerate(benchmark.palette)]
    known += [*benchmark.merged_colors, *((color, IGNORED) for color in benchmark.ignored_colors)]
    for (r, g, b), number in known:
        classes[codes == (r << 16 | g << 8 | b)] = number
    return classes
