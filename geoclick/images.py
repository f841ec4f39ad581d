"""Opening and writing image files; a missing or truncated file is one clear error.

`geoclick.geo.reading` reads the pixels of images.
"""

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

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "JPEG2000", "BMP")
"""Pillow's names of the formats that are opened. Pillow would start other programs for some others."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".jp2", ".j2k", ".bmp")
"""Names of files in these formats end with one of these, in upper or lower case."""


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An open image file; raises GeoClickError if it is missing, truncated, no image or far too large."""
    try:
        files.refuse_special(path)
        with warnings.catch_warnings():
            # Pillow warns of large images and of broken records; what cannot be read is an error.
            warnings.simplefilter("ignore")
            image = Image.open(path, formats=FORMATS)
        # Without a name Pillow does not map the file into memory, where it scrambles TIFFs that are turned.
        image.filename = "" if image.format == "TIFF" else image.filename
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


def too_large(path: Path) -> GeoClickError:
    """The error for an image with more than MAX_PIXELS pixels."""
    return GeoClickError(
        f"{path} has more than {MAX_PIXELS // 10**6} million pixels, too many to read at once; "
        "cut it into tiles, for example with 'gdal_retile.py -ps 2048 2048 -targetDir tiles'."
    )


def read_gray(path: str | Path) -> np.ndarray:
    """A mask file as uint8 [H, W]; raises GeoClickError as `opened`."""
    with opened(Path(path)) as image:
        return np.asarray(image.convert("L"))


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 [H, W, 3] RGB, uint8 [H, W] or bool [H, W] (as 0 and 255) as PNG."""
    files.refuse_link(Path(path))
    array = image.view(np.uint8) * np.uint8(255) if image.dtype == bool else image
    # Level 2 takes a third of the default's time, for files a sixth larger.
    Image.fromarray(array).save(path, format="PNG", compress_level=2)
