"""Label encodings of the semantic benchmarks, and their ignored pixels, for the tiny copies.

A class map is uint8 [H, W] of class numbers, IGNORED and, in datasets with a single class, OTHER.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.class_maps import IGNORED

Encode = Callable[[np.ndarray, int], Image.Image]
"""(class map, number of its image) -> image of the label."""

Ignore = Callable[[np.ndarray, int], np.ndarray]
"""(class map, number of its image) -> the class map with some pixels ignored."""


def values(first: int, ignored: int) -> Encode:
    """One channel, in which the first class has the value `first`."""

    def encode(classes: np.ndarray, index: int) -> Image.Image:
        return Image.fromarray(np.where(classes == IGNORED, ignored, classes + first).astype(np.uint8))

    return encode


def colors(name: str) -> Encode:
    """Three channels with the dataset's colors, black for ignored pixels."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(BENCHMARKS[name].palette)] = BENCHMARKS[name].palette
    return lambda classes, index: Image.fromarray(palette[classes])


def in_turn(*encodings: Encode) -> Encode:
    """Several encodings of one dataset, one image after another."""
    return lambda classes, index: encodings[index % len(encodings)](classes, index)


def black_palette(classes: np.ndarray, index: int) -> Image.Image:
    """Values with an entirely black palette: read as colors, every pixel would be of the first class."""
    image = Image.fromarray(classes)
    image.putpalette([0] * 768)
    return image


def moving_cars(classes: np.ndarray, index: int) -> Image.Image:
    """UAVid's colors; every second car is a moving one, with another color."""
    from scipy import ndimage

    pixels = np.array(colors("uavid")(classes, index))
    cars, _ = ndimage.label(classes == BENCHMARKS["uavid"].names.index("car"))
    pixels[cars % 2 == 1] = (64, 0, 128)
    return Image.fromarray(pixels)


def foreground(value: int, number: int = 0) -> Encode:
    """The class `number` as `value`, and all others as 0."""
    return lambda classes, index: Image.fromarray(np.where(classes == number, value, 0).astype(np.uint8))


def three_channels(classes: np.ndarray, index: int) -> Image.Image:
    """Class 0 white on black, with three channels."""
    return foreground(255)(classes, index).convert("RGB")


def gray_edges(classes: np.ndarray, index: int) -> Image.Image:
    """Class 0 white on black, with three channels, and gray on both sides of its edges."""
    from scipy import ndimage

    share = 255 * ndimage.uniform_filter((classes == 0).astype(np.float32), 3)
    gray = np.where(classes == 0, np.maximum(share, 128), np.minimum(share, 127))
    return Image.fromarray(gray.astype(np.uint8)).convert("RGB")


def damage(classes: np.ndarray, index: int) -> Image.Image:
    """XBD's buildings as 1 to 4, their damage."""
    from scipy import ndimage

    buildings, _ = ndimage.label(classes == 0)
    return Image.fromarray(np.where(buildings, 1 + buildings % 4, 0).astype(np.uint8))


def all_scored(classes: np.ndarray, index: int) -> np.ndarray:
    """No pixel is ignored."""
    return classes


def no_data(classes: np.ndarray, index: int) -> np.ndarray:
    """Every second image has no data in one corner."""
    rows, columns = np.indices(classes.shape)
    return np.where((index % 2 == 0) & (rows + 2 * columns < classes.shape[0]), IGNORED, classes)


def eroded(classes: np.ndarray, index: int) -> np.ndarray:
    """Pixels within three pixels of another class are ignored."""
    from scipy import ndimage

    low, high = ndimage.minimum_filter(classes, 7), ndimage.maximum_filter(classes, 7)
    return np.where(low == high, classes, IGNORED)


def padded(classes: np.ndarray, index: int) -> np.ndarray:
    """Every second image was smaller than a tile and is padded on the right and at the bottom."""
    result = classes.copy()
    if index % 2:
        result[-(len(result) // 4) :] = IGNORED
        result[:, -(result.shape[1] // 5) :] = IGNORED
    return result
