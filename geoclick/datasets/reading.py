"""What all readers share: their options, what they leave out and why, and staying inside the root."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from geoclick import images
from geoclick.errors import GeoClickError

QUESTIONS = ("all", "first", "random")
"""Which of several questions about one target are asked."""


@dataclass(frozen=True)
class ReadOptions:
    """Choices of a reader whose dataset leaves something open.

    Attributes:
        min_area: pixels that a component of a color mask, or a piece of what a tile's border cuts, has at least.
        max_area_fraction: share of the image that a component of a color mask covers at most.
        query: what is asked of masks that have no classes.
        tile: side of the tiles that a large raster is cut to, in pixels.
        overlap: pixels that neighboring tiles share at least.
        bands: of a raster, shown as red, green and blue, counted from 1; one is shown in grey, none leaves it to
            the file.
        stretch: percentiles of a raster's values that become black and white; bytes are shown as they are.
        question: which of several questions about one target is asked, one of QUESTIONS.
        question_seed: of `random`; what is drawn depends on it and the sample only.
    """

    min_area: int = 256
    max_area_fraction: float = 0.5
    query: str = "the object"
    tile: int = 1024
    overlap: int = 128
    bands: tuple[int, ...] = ()
    stretch: tuple[float, float] = (2.0, 98.0)
    question: str = "all"
    question_seed: int = 0


@dataclass(frozen=True)
class LeftOut:
    """Something that a reader did not yield.

    Attributes:
        item: the sample, image or line concerned.
        reason: a few words, the same for all things left out for it.
        error: one sentence with the fix when it is a failure; empty when the options or the data say so.
        count: how many samples; 1 where it cannot be known.
    """

    item: str
    reason: str
    error: str = ""
    count: int = 1


OnLeftOut = Callable[[LeftOut], None]


def raise_failures(left_out: LeftOut) -> None:
    """The strict way: raise GeoClickError for a failure, and pass over what is left out by choice."""
    if left_out.error:
        raise GeoClickError(left_out.error)


def inside(root: Path, path: str | Path) -> Path:
    """`root / path`, links followed, when that lies in `root`; raises GeoClickError otherwise."""
    found = (root / path).resolve()
    if not found.is_relative_to(root.resolve()):
        raise GeoClickError(f"{path} leads out of {root}; keep the dataset's files inside its root.")
    return found


def file_in(root: Path, name: str) -> Path:
    """The file `root / name`; raises GeoClickError when it is not there, leads out of `root` or is no name."""
    try:
        path = inside(root, name)
        there = path.is_file()
    except (OSError, ValueError) as error:
        raise GeoClickError(f"{name[:80]!r} is no name of a file ({error}); mend it.") from error
    if not there:
        raise GeoClickError(f"{path} does not exist; add the file or give another --root.")
    return path


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from an image's header; raises GeoClickError when there is none."""
    with images.opened(path) as image:
        return image.height, image.width


def check_size(image: str, size: tuple[int, int], mask_size: tuple[int, int]) -> None:
    """Raise GeoClickError naming both sizes, as width x height, unless they are equal."""
    if tuple(size) != tuple(mask_size):
        raise GeoClickError(
            f"{image} is {size[1]}x{size[0]} pixels but its mask is {mask_size[1]}x{mask_size[0]}; "
            "make them the same size."
        )
