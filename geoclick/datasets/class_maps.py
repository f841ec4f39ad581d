"""Label files of the semantic benchmarks, of one channel or three, as maps of class numbers."""

from pathlib import Path

import numpy as np

from geoclick import images
from geoclick.datasets.benchmarks import Benchmark, Layout
from geoclick.errors import GeoClickError

IGNORED = 255
"""Stands where a label says that a pixel does not count, or has a value that the benchmark does not know."""

OTHER = 253
"""Stands where none of the classes is, in the sets with one class to find."""

_UNKNOWN = 254


def read_class_map(path: Path, benchmark: Benchmark, layout: Layout) -> tuple[np.ndarray, int]:
    """What a label file says of each pixel.

    A label of one channel holds class values, that of a palette picture too: its palette is for looking at, and some
    tools write one that is black throughout. A label of three channels holds colors.

    Args:
        path: the file.
        benchmark: says what values and colors mean.
        layout: the one that the file lies in.

    Returns:
        The map, uint8 [H, W]: numbers of classes, OTHER and IGNORED; and how many of the ignored pixels have a value
        or a color that the benchmark does not know.

    Raises:
        GeoClickError: the file cannot be read, or it is no label of this benchmark.
    """
    if layout.foreground is not None:
        found = _read(path, black_and_white=layout.foreground > 1) >= layout.foreground
        return np.where(found, *((1, 0) if len(benchmark.classes) == 2 else (0, OTHER))).astype(np.uint8), 0
    pixels = _read(path)
    if pixels.ndim == 3 and not benchmark.palette:
        raise GeoClickError(
            f"{path} is a color picture, but a label of {benchmark.title} has one channel with the class at each "
            "pixel; replace it by the file of class values."
        )
    classes = _of_values(pixels, benchmark) if pixels.ndim == 2 else _of_colors(pixels, benchmark)
    unknown = classes == _UNKNOWN
    if unknown.all():
        raise GeoClickError(
            f"{path} has no value or color of a class of {benchmark.title}; replace it by a label of that set."
        )
    classes[unknown] = IGNORED
    return classes, int(np.count_nonzero(unknown))


def _read(path: Path, *, black_and_white: bool | None = None) -> np.ndarray:
    """The pixels of a label.

    Args:
        path: the file.
        black_and_white: None gives values, numbers [H, W], or colors, uint8 [H, W, 3], as the file has them; True
            makes grey values of what the picture looks like; False takes values where it has one channel.
    """
    with images.opened(path) as image:
        channels = len(image.getbands())
        if black_and_white or (black_and_white is False and channels > 1):
            return np.asarray(image.convert("L"))
        return np.asarray(image if channels == 1 else image.convert("RGB"))


def _of_values(values: np.ndarray, benchmark: Benchmark) -> np.ndarray:
    """The map of values, numbers [H, W] of any type."""
    count = len(benchmark.classes)
    table = np.full(257, _UNKNOWN, np.uint8)
    table[benchmark.first : benchmark.first + count] = np.arange(count)
    table[list(benchmark.ignore)] = IGNORED
    if values.dtype != np.uint8:
        # A negative one becomes the last place of the table, and so do those beyond it.
        values = np.clip(values, -1, 256).astype(np.int16)
    return table[values]


def _of_colors(colors: np.ndarray, benchmark: Benchmark) -> np.ndarray:
    """The map of colors, uint8 [H, W, 3]."""
    red, green, blue = np.moveaxis(colors.astype(np.int32), -1, 0)
    codes = red << 16 | green << 8 | blue
    classes = np.full(codes.shape, _UNKNOWN, np.uint8)
    known = [(color, number) for number, color in enumerate(benchmark.palette)]
    known += [*benchmark.merged, *((color, IGNORED) for color in benchmark.ignore_colors)]
    for (r, g, b), number in known:
        classes[codes == (r << 16 | g << 8 | b)] = number
    return classes
