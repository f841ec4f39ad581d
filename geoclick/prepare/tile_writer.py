"""Processing one raw image: read, decode, cut, write, and record it as done."""

import hashlib
import io
import json
import warnings
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from geoclick import files
from geoclick.datasets.reading import check_size, inside
from geoclick.errors import GeoClickError
from geoclick.geo import reading
from geoclick.prepare import JOBS
from geoclick.prepare.raw_files import Source
from geoclick.prepare.tiling import cut, windows

FOLDER = "progress"
"""Folder inside the output with a record of every finished image; removed when the job is complete."""
COMPRESSION = 3
"""zlib level: on aerial images half the time of Pillow's default, and no larger."""


class ImageRecord(TypedDict):
    """The record of a finished image: its label pixels without a class, and the SHA-256 of its files by name."""

    unknown_pixels: int
    files: dict[str, str]


def write_tiles(job_name: str, source: Source, split: str, output: Path) -> None:
    """Write the tiles of one raw image, each atomically, then its record.

    Raises:
        GeoClickError: a raw file is broken, or image and label differ in size.
        OSError: a file cannot be written.
    """
    job = JOBS[job_name]
    with warnings.catch_warnings():
        # Some raw images exceed the size from which Pillow warns.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = reading.read_image(source.image)
        height, width = image.shape[:2]
        label, unknown = job.read_label(source.label, (height, width))
    check_size(str(source.image), (height, width), label.shape)
    written = {}
    for window in windows((height, width), job.tile, job.overlap):
        if job.ignored is None and (window.height > height or window.width > width):
            raise GeoClickError(
                f"{source.image} is {width}x{height} pixels, smaller than a tile of "
                f"{window.width}x{window.height}; put the published file there."
            )
        image_name, label_name = job.output(split, source.name, window)
        contents = {
            image_name: source.image.read_bytes() if job.tile is None else _png(cut(image, window, 0)),
            label_name: _png(cut(label, window, job.ignored or 0)),
        }
        for name, content in contents.items():
            _write(inside(output, name), content)
            written[name] = hashlib.sha256(content).hexdigest()
    record: ImageRecord = {"unknown_pixels": unknown, "files": written}
    files.write_whole(_record_path(output, source.name), json.dumps(record) + "\n")


def read_record(output: Path, name: str) -> ImageRecord | None:
    """The record of an image; None if it is not finished or its files are missing."""
    path = _record_path(output, name)
    try:
        record: ImageRecord = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise GeoClickError(f"{path} is broken; delete it and rerun the command.") from error
    return record if all(inside(output, file).is_file() for file in record["files"]) else None


def _record_path(output: Path, name: str) -> Path:
    return output / FOLDER / "images" / f"{name}.json"


def _png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, 3] or [H, W] as an RGB or gray PNG, without a palette."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=COMPRESSION)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as partial:
        partial.write_bytes(content)
