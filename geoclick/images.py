"""Reading and writing images; a missing, truncated or wrongly sized file is one clear error."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from geoclick import files
from geoclick.errors import GeoClickError


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An open image file; raises GeoClickError if it is missing, truncated, no image or far too large."""
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError as error:
        raise GeoClickError(f"{path} does not exist; check the path.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise GeoClickError(
            f"{path} cannot be read as an image ({error}); replace or remove the file."
        ) from error


def _open(path: Path, mode: str) -> np.ndarray:
    with opened(path) as image:
        return np.asarray(image.convert(mode))


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
