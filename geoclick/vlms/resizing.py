"""How Qwen2.5-VL's processor resizes images: coordinates in its answers are pixels of the resized image."""

FAMILY = "qwen2_5_vl"

FACTOR = 28
"""Sides of resized images, in pixels, are multiples of this."""

LIMITS = 4 * 28 * 28, 16384 * 28 * 28
"""Smallest and largest area of a resized image, in pixels, of the published checkpoints (preprocessor_config.json)."""


def resized_size(size: tuple[int, int], limits: tuple[int, int] = LIMITS) -> tuple[int, int] | None:
    """The (height, width) that an image is resized to, or None if it is refused as too narrow.

    Args:
        size: (height, width) of the image in pixels.
        limits: smallest and largest area of the resized image, in pixels.
    """
    # It imports torch, which takes seconds.
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    try:
        return smart_resize(*size, factor=FACTOR, min_pixels=limits[0], max_pixels=limits[1])
    except ValueError:
        return None
