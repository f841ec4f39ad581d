"""Reading and writing images; a missing, truncated or wrongly sized file is one clear error."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from geoclick import files
from geoclick.errors import GeoClickError, first_line

MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
"""Largest number of pixels of an image; Pillow's limit."""

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "JPEG2000", "BMP", "GIF", "PPM")
"""Pillow's names of the formats that are opened. Pillow would start other programs for some others."""


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An open image file; raises GeoClickError if it is missing, truncated, no image or far too large."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
        with image:
            yield image
    except GeoClickError:
        raise
    except FileNotFoundError as error:
        raise GeoClickError(f"{path} does not exist; check the path.") from error
    except Image.DecompressionBombError as error:
        raise too_large(path) from error
    except Exception as error:  # Pillow's decoders raise many types for broken files
        raise GeoClickError(
            f"{path} cannot be read as an image ({first_line(error)}); replace or remove the file."
        ) from error


def _open(path: Path, mode: str) -> np.ndarray:
    with opened(path) as image:
        return np.asarray(image.convert(mode))


def too_large(path: Path) -> GeoClickError:
    """The error for an image with more than MAX_PIXELS pixels."""
    return GeoClickError(
        f"{path} has more than {MAX_PIXELS // 10**6} million pixels, too many to read at once; "
        "cut it into tiles, for example with 'gdal_retile.py -ps 2048 2048 -targetDir tiles'."
    )


def read_image(path: str | Path, *, size: tuple[int, int] | None = None) -> np.ndarray:
    """An image file as uint8 [H, W, 3] RGB.

    Args:
        path: the file.
        size: required (height, width); None accepts any.

    Raises:
        GeoClickError: the file is missing, truncated, no image, or has another size.
    """
    image = _open(Path(path), "RGB")
    if size is not None and image.shape[:2] != tuple(size):
        raise GeoClickError(
            f"{path} is {image.shape[1]}x{image.shape[0]} pixels but its mask is {size[1]}x{size[0]}; "
            "make them the same size."
        )
    return image


def read_gray(path: str | Path) -> np.ndarray:
    """A mask file as uint8 [H, W]; raises GeoClickError like `read_image`."""
    return _open(Path(path), "L")


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 [H, W, 3] RGB, uint8 [H, W] or bool [H, W] (as 0 and 255) as PNG."""
    files.refuse_link(Path(path))
    array = image.astype(np.uint8) * 255 if image.dtype == bool else image
    Image.fromarray(array).save(path, format="PNG")
