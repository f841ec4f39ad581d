"""Raw labels to index maps, by color or by value; unknown colors and values are counted."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from geoclick import images
from geoclick.datasets.benchmarks import BENCHMARKS, RGB
from geoclick.errors import GeoClickError
from geoclick.geo import reading

ROWS = 512
"""Rows decoded at a time, which saves a gigabyte for a label of 6000x6000 pixels."""
UNKNOWN = 254
"""Marks unknown colors; no dataset uses this value."""


def colors_of(benchmark: str) -> dict[RGB, int]:
    """The label value of every color of a benchmark."""
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
    """A color label as an index map.

    Args:
        path: the file, RGB or with a palette, of which the colors are read, not the indices.
        colors: the value of each color.
        ignored: the value of pixels with other colors.

    Returns:
        uint8 [H, W], and the number of pixels with other colors.

    Raises:
        GeoClickError: the file is broken or gray, or more than half of its pixels have other colors.
    """
    if (mode := mode_of(path)) not in ("RGB", "RGBA", "P"):
        raise GeoClickError(f"{path} is no color label (its mode is {mode}); put the published file there.")
    rgb = reading.read_image(path)
    table = np.full(1 << 24, UNKNOWN, np.uint8)
    for (red, green, blue), value in colors.items():
        table[red << 16 | green << 8 | blue] = value
    index = np.empty(rgb.shape[:2], np.uint8)
    for top in range(0, len(rgb), ROWS):
        part = rgb[top : top + ROWS].astype(np.int32)
        index[top : top + ROWS] = table[part[..., 0] << 16 | part[..., 1] << 8 | part[..., 2]]
    return _ignoring(path, index, index == UNKNOWN, ignored)


def by_value(path: Path, highest: int, *, ignored: int) -> tuple[np.ndarray, int]:
    """A label with one channel as an index map, in which values above `highest` are ignored.

    Of a file with a palette the indices are read, not the colors. Returns and raises as `by_palette`.
    """
    index = read_values(path)
    return _ignoring(path, index, index > highest, ignored)


def read_values(path: Path) -> np.ndarray:
    """A label with one channel as stored, uint8 [H, W]; raises GeoClickError if it is broken or has colors."""
    if (mode := mode_of(path)) not in ("L", "P", "1"):
        raise GeoClickError(
            f"{path} is no 8-bit label with one channel (its mode is {mode}); put the published file there."
        )
    with images.opened(path) as image:
        return np.array(image).astype(np.uint8)


def _ignoring(path: Path, index: np.ndarray, unknown: np.ndarray, ignored: int) -> tuple[np.ndarray, int]:
    count = int(unknown.sum())
    if 2 * count > unknown.size:
        raise GeoClickError(
            f"{path} has an unknown color or value on {count} of its {unknown.size} pixels; "
            "put the published label there."
        )
    index[unknown] = ignored
    return index, count
