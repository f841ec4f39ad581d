"""How Qwen2.5-VL's own processor resizes images: its answers count in pixels of the resized one."""

FAMILY = "qwen2_5_vl"

FACTOR = 28
"""Sides of resized images, in pixels, are multiples of this."""

LIMITS = 4 * 28 * 28, 16384 * 28 * 28
"""Least and largest area of a resized image, in pixels, of the published checkpoints (preprocessor_config.json)."""


def resized_size(size: tuple[int, int], limits: tuple[int, int] = LIMITS) -> tuple[int, int] | None:
    """The (height, width) that an image is resized to; None for one that is refused, since it is too narrow.

    Args:
        size: (height, width) of the image in pixels.
        limits: least and largest area of the resized image, in pixels.
    """
    # It imports torch, which takes seconds.
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    try:
        return smart_resize(*size, factor=FACTOR, min_pixels=limits[0], max_pixels=limits[1])
    except ValueError:
        return None
