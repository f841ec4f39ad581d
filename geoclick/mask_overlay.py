"""A mask drawn on an image for the model, so that it sees what its clicks have selected so far.

The picture is rendered from image and mask whenever it is read, in training as in inference; it is stored nowhere.
"""

from typing import TYPE_CHECKING

from geoclick.masks import Rle, decode_rle

if TYPE_CHECKING:
    import numpy as np

COLOR = (240, 60, 205)
TINT = 102
"""Share of COLOR in the pixels of the mask, of 256."""
SEPARATOR = "\0"
"""Between the path of an image and the counts of the mask's RLE; no path holds it."""


def draw(image: "np.ndarray", mask: "np.ndarray") -> "np.ndarray":
    """The image, uint8 [H, W, 3], with the mask (bool [H, W]) tinted and its inner border, one pixel wide, in COLOR.

    All numbers are whole, so that the same image and mask give the same picture on every machine.
    """
    import numpy as np

    color = np.array(COLOR, np.uint16)
    picture = image.copy()
    picture[mask] = ((256 - TINT) * image[mask].astype(np.uint16) + TINT * color + 128) // 256
    picture[mask & ~_eroded(mask)] = COLOR
    return picture


def _eroded(mask: "np.ndarray") -> "np.ndarray":
    """The pixels of a mask whose four neighbors are in it too; those beyond the image count as in it."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return inner


def reference(path: str, shown: Rle | None) -> str:
    """The path of an image, with the mask that is drawn on it, as one text; the path alone without a mask."""
    return f"{path}{SEPARATOR}{shown['counts']}" if shown else path


def parse(text: str, size: tuple[int, int]) -> tuple[str, "np.ndarray | None"]:
    """The path and the mask, bool [H, W], of a `reference` to an image of `size` (height, width)."""
    path, separator, counts = text.partition(SEPARATOR)
    return path, decode_rle({"size": list(size), "counts": counts}) if separator else None
