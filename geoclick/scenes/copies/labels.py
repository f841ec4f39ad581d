"""How the semantic benchmarks write labels, and what is missing in them, for their tiny copies.

A map of classes is uint8 [H, W]: numbers of classes, IGNORED, and OTHER where one class is looked for and not there.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.class_maps import IGNORED

Encode = Callable[[np.ndarray, int], Image.Image]
"""A map of classes and the number of its image -> the picture of its label."""

Spoil = Callable[[np.ndarray, int], np.ndarray]
"""A map of classes and the number of its image -> the map of which some pixels do not count."""


def values(first: int, ignored: int) -> Encode:
    """One channel in which the first class has the value `first`."""

    def encode(classes: np.ndarray, index: int) -> Image.Image:
        return Image.fromarray(np.where(classes == IGNORED, ignored, classes + first).astype(np.uint8))

    return encode


def colors(name: str) -> Encode:
    """Three channels in the set's colors, black where nothing counts."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(BENCHMARKS[name].palette)] = BENCHMARKS[name].palette
    return lambda classes, index: Image.fromarray(palette[classes])


def in_turn(*ways: Encode) -> Encode:
    """Several ways in which labels of a set are found, one image after another."""
    return lambda classes, index: ways[index % len(ways)](classes, index)


def black_palette(classes: np.ndarray, index: int) -> Image.Image:
    """Values as a palette picture of which all colors are black, so that as colors every class is the first one."""
    picture = Image.fromarray(classes)
    picture.putpalette([0] * 768)
    return picture


def moving_cars(classes: np.ndarray, index: int) -> Image.Image:
    """UAVid's colors; every other car moves, and has another color."""
    pixels = np.array(colors("uavid")(classes, index))
    cars, _ = ndimage.label(classes == BENCHMARKS["uavid"].names.index("car"))
    pixels[cars % 2 == 1] = (64, 0, 128)
    return Image.fromarray(pixels)


def found(value: int, number: int = 0) -> Encode:
    """The class with a number as `value`, and all others black."""
    return lambda classes, index: Image.fromarray(np.where(classes == number, value, 0).astype(np.uint8))


def three_channels(classes: np.ndarray, index: int) -> Image.Image:
    """Class 0 white on black, as three channels."""
    return found(255)(classes, index).convert("RGB")


def grey_edges(classes: np.ndarray, index: int) -> Image.Image:
    """Class 0 white on black, as three channels, with grey on either side of its edge."""
    share = 255 * ndimage.uniform_filter((classes == 0).astype(np.float32), 3)
    grey = np.where(classes == 0, np.maximum(share, 128), np.minimum(share, 127))
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def damage(classes: np.ndarray, index: int) -> Image.Image:
    """XBD's buildings as 1 to 4, by how much is left of them."""
    buildings, _ = ndimage.label(classes == 0)
    return Image.fromarray(np.where(buildings, 1 + buildings % 4, 0).astype(np.uint8))


def whole(classes: np.ndarray, index: int) -> np.ndarray:
    """Every pixel counts."""
    return classes


def no_data(classes: np.ndarray, index: int) -> np.ndarray:
    """Every other image lacks a corner."""
    rows, columns = np.indices(classes.shape)
    return np.where((index % 2 == 0) & (rows + 2 * columns < classes.shape[0]), IGNORED, classes)


def eroded(classes: np.ndarray, index: int) -> np.ndarray:
    """What lies within three pixels of another class does not count."""
    low, high = ndimage.minimum_filter(classes, 7), ndimage.maximum_filter(classes, 7)
    return np.where(low == high, classes, IGNORED)


def padded(classes: np.ndarray, index: int) -> np.ndarray:
    """Every other image was smaller than a tile and is padded at the right and at the bottom."""
    result = classes.copy()
    if index % 2:
        result[-(len(result) // 4) :] = IGNORED
        result[:, -(result.shape[1] // 5) :] = IGNORED
    return result
