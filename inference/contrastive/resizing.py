"""Resizing of images with OpenCV's arithmetic, which the published figures of dense CLIP depend on.

OpenCV's bilinear interpolation of 8-bit images has weights of 11 bits, drops four bits between its two passes, and
has no antialias. Some values are one gray level below those of an exact interpolation, and with exact values the
labels of some pixels change.
"""

import numpy as np

from geoclick.errors import GeoClickError

ONE = np.float32(2048)
"""The weight 1.0."""


def resize_long_side(image: np.ndarray, long_side: int) -> np.ndarray:
    """An image, uint8 [H, W, 3], with its longer side resized to `long_side` and its aspect ratio unchanged.

    The other side is rounded half up, as in mmcv.

    Raises:
        GeoClickError: the other side would have no pixel.
    """
    height, width = image.shape[:2]
    scale = long_side / max(height, width)
    size = int(height * scale + 0.5), int(width * scale + 0.5)
    if min(size) == 0:
        raise GeoClickError(
            f"An image of {width}x{height} pixels is too narrow: with a long side of {long_side} its other side has "
            "no pixel; cut it into pieces."
        )
    return resize(image, size)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The values of `cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)`.

    Args:
        image: uint8 [H, W, C].
        size: (height, width) of the result.
    """
    height, width = size
    if image.shape[:2] == (2 * height, 2 * width):
        # OpenCV averages 2 x 2 pixels if both sides are halved.
        pixels = image.astype(np.int32).reshape(height, 2, width, 2, -1)
        return ((pixels.sum(axis=(1, 3)) + 2) >> 2).astype(np.uint8)
    left, fraction = _positions(image.shape[1], width)
    outside = (left < 0) | (left >= image.shape[1] - 1)
    fraction[outside] = 0
    columns = left.clip(0, image.shape[1] - 1), (left + 1).clip(0, image.shape[1] - 1)
    column_weights = [weight[:, None] for weight in _weights(fraction)]
    top, fraction = _positions(image.shape[0], height)
    rows = top.clip(0, image.shape[0] - 1), (top + 1).clip(0, image.shape[0] - 1)
    total = np.full((height, width, image.shape[2]), 2, np.int32)
    for row, weight in zip(rows, _weights(fraction), strict=True):
        pixels = image[row].astype(np.int32)
        sums = pixels[:, columns[0]] * column_weights[0] + pixels[:, columns[1]] * column_weights[1]
        total += (weight[:, None, None] * (sums >> 4)) >> 16
    return (total >> 2).astype(np.uint8)


def _positions(length: int, new_length: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixel before each new pixel, from -1, and the distance of the new one from it, float32 from 0 to 1."""
    positions = ((np.arange(new_length) + 0.5) * (length / new_length) - 0.5).astype(np.float32)
    before = np.floor(positions)
    return before.astype(np.int64), positions - before


def _weights(fraction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integer weights of the two neighbors."""
    return (
        np.rint((np.float32(1) - fraction) * ONE).astype(np.int32),
        np.rint(fraction * ONE).astype(np.int32),
    )
