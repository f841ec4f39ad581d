"""Raw labels to index maps: by color, by value or by threshold; what is not named is counted."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from geoclick import images
from geoclick.datasets.benchmarks import BENCHMARKS, RGB
from geoclick.errors import GeoClickError

ROWS = 512
"""Rows decoded together, so that a label of 6000x6000 pixels takes no further gigabyte."""
UNKNOWN = 254
"""No set uses this value."""


def colors_of(benchmark: str) -> dict[RGB, int]:
    """The value of every color that a label of a benchmark may have, by the table of benchmarks."""
    table = BENCHMARKS[benchmark]
    numbers = [*zip(table.palette, range(len(table.palette)), strict=True), *table.merged_colors]
    return {color: table.first_value + number for color, number in numbers} | dict.fromkeys(
        table.ignored_colors, table.ignored_values[0]
    )


def mode_of(path: Path) -> str:
    """Pillow's mode of an image file, from its header; raises GeoClickError."""
    with images.opened(path) as image:
        return image.mode


def by_palette(path: Path, colors: Mapping[RGB, int], *, ignored: int) -> tuple[np.ndarray, int]:
    """A label in colors as an index map.

    Args:
        path: the file, RGB or with a palette; of the latter the colors count, not the numbers.
        colors: the value of each color.
        ignored: the value of pixels of all other colors.

    Returns:
        uint8 [H, W], and how many pixels have another color.

    Raises:
        GeoClickError: the file is broken, grey, or has other colors on more than half of it.
    """
    if (mode := mode_of(path)) not in ("RGB", "RGBA", "P"):
        raise GeoClickError(
            f"{path} is no label in colors (its mode is {mode}); put the published file there."
        )
    rgb = images.read_image(path)
    table = np.full(1 << 24, UNKNOWN, np.uint8)
    for (red, green, blue), value in colors.items():
        table[red << 16 | green << 8 | blue] = value
    index = np.empty(rgb.shape[:2], np.uint8)
    for top in range(0, len(rgb), ROWS):
        part = rgb[top : top + ROWS].astype(np.int32)
        index[top : top + ROWS] = table[part[..., 0] << 16 | part[..., 1] << 8 | part[..., 2]]
    return _ignoring(path, index, index == UNKNOWN, ignored)


def by_value(path: Path, highest: int, *, ignored: int) -> tuple[np.ndarray, int]:
    """A label of numbers as an index map: 0 to `highest` stay, others are ignored; returns and raises as `by_palette`.

    Of a file with a palette the numbers count, not the colors.
    """
    index = read_numbers(path)
    return _ignoring(path, index, index > highest, ignored)


def read_numbers(path: Path) -> np.ndarray:
    """A label of one channel as it is stored, uint8 [H, W]; raises GeoClickError when it is broken or in colors."""
    if (mode := mode_of(path)) not in ("L", "P", "1"):
        raise GeoClickError(
            f"{path} is no label of one channel with 8 bits (its mode is {mode}); put the published file there."
        )
    try:
        with Image.open(path) as image:
            return np.array(image).astype(np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        raise GeoClickError(
            f"{path} cannot be read as an image ({error}); replace or remove the file."
        ) from error


def _ignoring(path: Path, index: np.ndarray, unknown: np.ndarray, ignored: int) -> tuple[np.ndarray, int]:
    count = int(unknown.sum())
    if 2 * count > unknown.size:
        raise GeoClickError(
            f"{path} has on {count} of its {unknown.size} pixels a color or value that the set does not name; "
            "put the published label there."
        )
    index[unknown] = ignored
    return index, count
