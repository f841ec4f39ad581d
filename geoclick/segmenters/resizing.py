"""segment-anything's resizing of images and points to its input frame, without torchvision."""

from collections.abc import Sequence

import numpy as np
from PIL import Image


def resized_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The (height, width) of an image of `size` (height, width) when its longer side becomes `side` pixels."""
    scale = side / max(size)
    return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)


def resize(image: np.ndarray, side: int) -> np.ndarray:
    """An image, uint8 [H, W, 3], with its longer side at `side` pixels."""
    height, width = resized_size((image.shape[0], image.shape[1]), side)
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def resize_points(
    points: Sequence[tuple[float, float]] | np.ndarray, size: tuple[int, int], side: int
) -> np.ndarray:
    """Points (x, y) of an image of `size` (height, width) in the resized image, float64 [P, 2]."""
    height, width = resized_size(size, side)
    return np.array(points, float) * np.array([width / size[1], height / size[0]])
