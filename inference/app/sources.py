"""The images that the app opens: uploads, and files below the folder that was named at the start."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoclick import files
from geoclick.errors import GeoClickError
from geoclick.geo import georeference
from geoclick.geo.georeference import Georeference
from geoclick.geo.reading import PixelOptions, image_size, read_image
from geoclick.images import SUFFIXES

MAX_LISTED = 2000
"""Images of the folder that are listed."""


@dataclass(frozen=True, eq=False)
class Opened:
    """An image that was read.

    Attributes:
        path: the file.
        name: what it is called in the app: a file name, or a path relative to the folder.
        pixels: uint8 [H, W, 3] RGB.
        place: of a TIFF or JPEG 2000; None for the others.
        sha256: of the file.
    """

    path: Path
    name: str
    pixels: np.ndarray
    place: Georeference | None
    sha256: str

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def valid(self) -> np.ndarray | None:
        """The pixels with data, bool [H, W]; None if all have some."""
        return self.place.valid if self.place else None


@dataclass(frozen=True)
class Limits:
    """What is opened at most.

    Attributes:
        megapixels: million pixels of an image.
        upload: MB of an uploaded file.
    """

    megapixels: float
    upload: int

    def check_file(self, path: Path) -> None:
        """Raise GeoClickError for an upload that is too large."""
        if path.stat().st_size > self.upload * 10**6:
            raise GeoClickError(
                f"The file is larger than {self.upload} MB; start the app with a larger --max-upload."
            )

    def check_size(self, name: str, size: tuple[int, int]) -> None:
        """Raise GeoClickError for an image of `size` (height, width) that is too large."""
        if size[0] * size[1] > self.megapixels * 10**6:
            raise GeoClickError(
                f"{name} has {size[1]}x{size[0]} pixels, more than {self.megapixels:g} million; cut it, start the app "
                "with a larger --max-megapixels, or use 'geoclick predict', which reads it in windows."
            )


def listed(folder: Path) -> list[str]:
    """The images below a folder as relative paths with forward slashes, at most MAX_LISTED; links out are left out."""
    found = []
    for path in _walk(folder):
        if path.suffix.lower() in SUFFIXES and path.resolve().is_relative_to(folder.resolve()):
            found.append(path.relative_to(folder).as_posix())
            if len(found) == MAX_LISTED:
                break
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """The files below a folder in the order of their names, without hidden ones; linked folders are not entered."""
    for base, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(base, name) for name in sorted(names) if not name.startswith("."))


def named(folder: Path | None, name: str) -> Path:
    """The file with a name of `listed`; raises GeoClickError for a path out of the folder, and for a missing one."""
    if folder is None:
        raise GeoClickError("The app was started without --images; upload the image.")
    if "\0" in name:
        raise GeoClickError("That is not the name of a file; choose one of the list.")
    try:
        path = files.inside(folder, name)
    except GeoClickError as error:
        # Without the folder's path, which users of the app need not know.
        raise GeoClickError(f"{name} leads out of the folder of images; choose one of the list.") from error
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise GeoClickError(f"{name} is no image in the folder; choose one of the list.")
    return path


def read(path: Path, name: str, limits: Limits, pixels: PixelOptions) -> Opened:
    """Read an image; raises GeoClickError for one that is broken or too large, without the path of the file."""
    try:
        limits.check_size(name, image_size(path))
        sha256 = files.sha256(path)
        image = read_image(path, pixels=pixels)
        place = georeference.read(path, pixels.bands)
    except GeoClickError as error:
        raise GeoClickError(str(error).replace(str(path), name)) from error
    return Opened(path, name, image, place, sha256)
