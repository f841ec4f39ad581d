"""Semantic masks stored as colors: one region for each connected component of each class."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoclick import files, images
from geoclick.errors import GeoClickError

_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA")

EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Legend:
    """The colors of a mask, as integers 0xRRGGBB; a color of both kinds is ignored."""

    classes: dict[str, int]
    ignore: frozenset[int]


@dataclass(frozen=True)
class Region:
    """One connected component (8 neighbors) of a class.

    Attributes:
        category: the class.
        box: rows and columns of its bounding box.
        mask: bool, the component inside the box.
        start: (row, column) of its first pixel in row-major order, in the image.
        area: number of its pixels.
    """

    category: str
    box: tuple[slice, slice]
    mask: np.ndarray
    start: tuple[int, int]
    area: int


def slug(name: str) -> str:
    """The name of a class as a part of a sample's id."""
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def _color(value: object) -> int:
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(isinstance(v, int) and 0 <= v <= 255 for v in value)
    ):
        raise ValueError(f"{value!r} is not three integers from 0 to 255")
    return value[0] << 16 | value[1] << 8 | value[2]


def read_legend(path: Path) -> Legend:
    """The legend in a `classes.json`: `{"classes": {name: [r, g, b]}, "ignore": [[r, g, b], ...]}`.

    Raises:
        GeoClickError: the file has other content.
    """
    files.refuse_special(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        ignore = frozenset(_color(value) for value in content.get("ignore", []))
        classes = {str(name): _color(value) for name, value in content["classes"].items()}
        if len(set(classes.values())) < len(classes):
            raise ValueError("two classes have the same color")
        if len({slug(name) for name in classes}) < len(classes):
            raise ValueError("the names of two classes differ in case or punctuation only")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GeoClickError(
            f'{path} must hold {{"classes": {{name: [r, g, b]}}, "ignore": [[r, g, b]]}} ({error}); fix it.'
        ) from error
    return Legend({name: code for name, code in classes.items() if code not in ignore}, ignore)


def read_codes(path: Path) -> np.ndarray:
    """The colors of a mask file, RGB, gray or palette, as int32 [H, W] of 0xRRGGBB; raises GeoClickError.

    An alpha channel is not read.
    """
    with images.opened(path) as image:
        if image.mode not in _MODES:
            raise GeoClickError(
                f"{path} is no mask of colors (its mode is {image.mode}); save it as 8-bit RGB, gray or palette."
            )
        rgb = np.asarray(image.convert("RGB")).astype(np.int32)
    return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]


def valid_pixels(codes: np.ndarray, legend: Legend) -> np.ndarray:
    """The pixels with the color of a class, bool [H, W]."""
    return np.isin(codes, list(legend.classes.values()))


def unknown_pixels(codes: np.ndarray, legend: Legend) -> int:
    """The number of pixels with a color that is not in the legend."""
    return int((~np.isin(codes, [*legend.classes.values(), *legend.ignore])).sum())


def regions(codes: np.ndarray, legend: Legend) -> Iterator[Region]:
    """The components by class, in the legend's order, then by their first pixel in row-major order."""
    from scipy import ndimage

    for category, code in legend.classes.items():
        labels, _ = ndimage.label(codes == code, EIGHT)
        components = []
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            mask = labels[box] == number
            start = (box[0].start, box[1].start + int(mask[0].argmax()))
            components.append(Region(category, box, mask, start, int(mask.sum())))
        yield from sorted(components, key=lambda region: region.start)
