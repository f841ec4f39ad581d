"""One raw image: read, decoded, cut, written, and an account kept of it."""

import hashlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from geoclick import files, images
from geoclick.datasets.reading import check_size, inside
from geoclick.errors import GeoClickError
from geoclick.prepare import JOBS
from geoclick.prepare.raw_files import Source
from geoclick.prepare.tiling import cut, windows

FOLDER = "progress"
"""Inside the output, with an account of every image that is done; removed when all are."""
COMPRESSION = 3
"""Of zlib: on aerial pictures half the time of Pillow's default, and no larger."""


def prepare(job_name: str, source: Source, split: str, output: Path) -> None:
    """Write the tiles of one image, whole each, then its account.

    Raises:
        GeoClickError: a raw file is broken, or image and label differ in size.
        OSError: nothing can be written.
    """
    job = JOBS[job_name]
    with warnings.catch_warnings():
        # Some of these images are larger than what Pillow takes for usual.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        picture = images.read_image(source.image)
        label, unknown = job.read_label(source.label, picture.shape[:2])
    check_size(str(source.image), picture.shape[:2], label.shape)
    written = {}
    for window in windows(label.shape, job.tile, job.overlap):
        if job.ignored is None and (window.height > label.shape[0] or window.width > label.shape[1]):
            raise GeoClickError(
                f"{source.image} is {label.shape[1]}x{label.shape[0]} pixels, smaller than a tile of "
                f"{window.width}x{window.height}; put the published file there."
            )
        picture_name, label_name = job.output(split, source.name, window)
        contents = {
            picture_name: source.image.read_bytes() if job.tile is None else _png(cut(picture, window, 0)),
            label_name: _png(cut(label, window, job.ignored or 0)),
        }
        for name, content in contents.items():
            _write(inside(output, name), content)
            written[name] = hashlib.sha256(content).hexdigest()
    account = {"unknown_pixels": unknown, "files": written}
    files.write_whole(_account(output, source.name), json.dumps(account) + "\n")


def read_account(output: Path, name: str) -> dict[str, Any] | None:
    """The `unknown_pixels` and `files`, name to sha256, of an image that is done; None for one that is not."""
    try:
        account = json.loads(_account(output, name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise GeoClickError(
            f"{_account(output, name)} is broken; delete it and start the same command again."
        ) from error
    return account if all(inside(output, file).is_file() for file in account["files"]) else None


def _account(output: Path, name: str) -> Path:
    return output / FOLDER / "images" / f"{name}.json"


def _png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, 3] or [H, W] as a PNG in colors or grey, never with a palette: readers take its numbers."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=COMPRESSION)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as partial:
        partial.write_bytes(content)
