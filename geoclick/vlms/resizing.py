"""How Qwen2.5-VL's processor resizes images: coordinates in its answers are pixels of the resized image."""

import math

FAMILY = "qwen2_5_vl"

FACTOR = 28
"""Sides of resized images, in pixels, are multiples of this."""

LIMITS = 4 * 28 * 28, 16384 * 28 * 28
"""Smallest and largest area of a resized image, in pixels, of the published checkpoints (preprocessor_config.json)."""


MAX_ASPECT = 200
"""The processor refuses images whose longer side is more than this times the shorter one."""


def resized_size(size: tuple[int, int], limits: tuple[int, int] = LIMITS) -> tuple[int, int] | None:
    """The (height, width) that an image is resized to, or None if it is refused as too narrow.

    This is the rule of transformers' `smart_resize`, whose module takes ten seconds to import.

    Args:
        size: (height, width) of the image in pixels.
        limits: smallest and largest area of the resized image, in pixels.
    """
    if max(size) > MAX_ASPECT * min(size):
        return None
    height, width = (round(side / FACTOR) * FACTOR for side in size)
    least, most = limits
    if height * width > most:
        shrink = math.sqrt(size[0] * size[1] / most)
        height, width = (max(1, math.floor(side / shrink / FACTOR)) * FACTOR for side in size)
    elif height * width < least:
        grow = math.sqrt(least / (size[0] * size[1]))
        height, width = (math.ceil(side * grow / FACTOR) * FACTOR for side in size)
    return height, width
