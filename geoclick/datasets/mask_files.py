"""Masks of one target as files hold them, and in the frame of their image."""

from pathlib import Path
from typing import Any

import numpy as np

from geoclick import images, masks
from geoclick.datasets.reading import check_size

TOLERANCE = 0.05
"""Share by which the sides of a mask may differ from those of its image; RRSIS-D has 800x800 for 800x787."""


def read_target(path: Path, above: int = 0) -> np.ndarray:
    """The target in a mask file, bool [H, W]: where a stored value is above `above`.

    The indices count where the file has a palette, the largest channel where it has several, alpha never.

    Raises:
        GeoClickError: the file is missing, cut or no image.
    """
    with images.opened(path) as image:
        bands, values = image.getbands(), np.asarray(image)
    if values.ndim == 3:
        values = values[..., [band not in "Aa" for band in bands]].max(axis=2)
    return values > above


def is_near(said: Any, size: tuple[int, int]) -> bool:
    """Whether a mask's [height, width], as some file says it, is that of its image or differs within TOLERANCE."""
    return (
        isinstance(said, list | tuple)
        and len(said) == 2
        and all(type(side) is int for side in said)
        and all(abs(side - own) <= TOLERANCE * own for side, own in zip(said, size, strict=True))
    )


def fitted(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask, bool [h, w], stretched to its image's (height, width) by nearest neighbors: bool [H, W]."""
    if mask.shape == tuple(size):
        return mask
    # The pixel whose square holds the center, in whole numbers.
    rows, columns = (
        (2 * np.arange(side) + 1) * own // (2 * side) for side, own in zip(size, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def encode_fitted(image: str, mask: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """The RLE of a mask in the frame of its image; raises GeoClickError if it is too far from its size."""
    if not is_near(mask.shape, size):
        check_size(image, size, mask.shape)
    return masks.encode_rle(fitted(mask, size))
