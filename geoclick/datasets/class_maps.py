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
        foreground, ignored = _foreground(path, layout.foreground)
        one, other = (1, 0) if len(benchmark.classes) == 2 else (0, OTHER)
        classes = np.where(foreground, one, other).astype(np.uint8)
        classes[ignored] = IGNORED
        return classes, 0
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


def _read(path: Path) -> np.ndarray:
    """The values [H, W] of a label with one channel as stored, or the colors, uint8 [H, W, 3], of another one."""
    with images.opened(path) as image:
        return np.asarray(image if len(image.getbands()) == 1 else image.convert("RGB"))


def _foreground(path: Path, threshold: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of the class and those that are not scored, bool [H, W] each, in datasets with a single class.

    A label whose maximum is 1 is of 0 and 1, whatever the layout: many are converted in place. Where a label holds 1
    and 255, and nothing else but 0, 255 is not scored.

    Args:
        path: the file.
        threshold: of the layout; above 1, the file is black and white by its look, and values otherwise.

    Raises:
        GeoClickError: a black and white label has no value from the threshold on, but values above 1.
    """
    with images.opened(path) as image:
        single, lossy = len(image.getbands()) == 1, image.format in ("JPEG", "MPO")
        stored = np.asarray(image)
        values = stored if single and threshold == 1 else np.asarray(image.convert("L"))
    # A palette for display may be entirely black.
    if single and threshold > 1 and values.max() <= 1:
        values = stored
    if values.dtype != bool and values.max() == 1:
        threshold = 1
    if 1 < values.max() < threshold and not lossy:
        raise GeoClickError(
            f"{path} is neither of 0 and 1 nor black and white: its largest gray value is {values.max()}; save its "
            "class as 1 or 255."
        )
    ignored = np.zeros(values.shape, bool)
    if threshold == 1 and single and values.max() == 255:
        ones, others = values == 1, values == 255
        if ones.any() and (ones | others | (values == 0)).all():
            ignored = others
    return (values >= threshold) & ~ignored, ignored


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
