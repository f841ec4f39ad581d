"""Reading the mask file of a target, and fitting a mask to the size of its image."""

from pathlib import Path
from typing import TypeGuard

import numpy as np

from geoclick import images, masks
from geoclick.datasets.reading import check_size
from geoclick.masks import Rle

TOLERANCE = 0.05
"""Share by which the sides of a mask may differ from those of its image; RRSIS-D has 800x800 for 800x787."""


def read_mask(path: Path, above: int = 0) -> np.ndarray:
    """The target in a mask file, bool [H, W]: the pixels with a stored value above `above`.

    Of a file with a palette the stored indices are compared; of several channels the largest, without alpha.

    Raises:
        GeoClickError: the file is missing, truncated or no image.
    """
    return np.asarray(_channels(path).max(axis=2) > above)


def read_first_channel(path: Path) -> np.ndarray:
    """The pixels of a mask file whose first channel is not 0, bool [H, W]; errors as `read_mask`."""
    return np.asarray(_channels(path)[..., 0] > 0)


def read_white(path: Path) -> np.ndarray:
    """The white pixels of a mask file that is converted to gray, bool [H, W]; errors as `read_mask`."""
    return np.asarray(images.read_gray(path) == 255)


def _channels(path: Path) -> np.ndarray:
    """The stored values of a file without alpha, [H, W, C]."""
    with images.opened(path) as image:
        bands, values = image.getbands(), np.asarray(image)
    if values.ndim == 2:
        return values[..., None]
    return values[..., [band not in "Aa" for band in bands]]


def is_near(size: object, image_size: tuple[int, int]) -> TypeGuard[tuple[int, int]]:
    """Whether a mask's [height, width], as a file gives it, differs from that of its image by at most TOLERANCE."""
    return (
        isinstance(size, list | tuple)
        and len(size) == 2
        and all(type(side) is int for side in size)
        and all(abs(side - own) <= TOLERANCE * own for side, own in zip(size, image_size, strict=True))
    )


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask, bool [h, w], resized to (height, width) by nearest neighbor: bool [H, W]."""
    if mask.shape == tuple(size):
        return mask
    # The source pixel that contains the center of each target pixel, in integers.
    rows, columns = (
        (2 * np.arange(side) + 1) * own // (2 * side) for side, own in zip(size, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def encode_resized(image: str, mask: np.ndarray, size: tuple[int, int]) -> Rle:
    """The RLE of a mask resized to its image; raises GeoClickError if the sizes differ by more than TOLERANCE."""
    if not is_near(mask.shape, size):
        check_size(image, size, mask.shape)
    return masks.encode_rle(resize_mask(mask, size))
