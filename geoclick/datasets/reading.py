"""What all readers share: their contract and options, what they leave out, and paths inside the root."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from geoclick.errors import GeoClickError

if TYPE_CHECKING:
    from geoclick.datasets.sample import Sample
from geoclick.files import inside

QUESTIONS = ("all", "first", "random")
"""Which of several questions about one target are asked."""

MAX_ASPECT = 200
"""Largest ratio of an image's sides that Qwen-VL takes."""

RASTER_TILE = 1024
"""Side of the tiles of rasters by default, in pixels."""


@dataclass(frozen=True)
class ReadOptions:
    """Options of the readers; each reader uses those that concern its layout.

    Attributes:
        min_area: smallest component of a color mask, or piece cut by a tile border, in pixels.
        max_area_fraction: largest component of a color mask, as a share of the image.
        query: query for masks without classes.
        tile: side of the tiles that large images are cut to, in pixels; None for RASTER_TILE for rasters, and for no
            cutting of other images.
        overlap: smallest overlap of neighboring tiles, in pixels.
        bands: bands of an image file shown as red, green and blue, counted from 1; a single one is shown in gray; empty
            takes those that the file marks.
        stretch: percentiles of its values that become black and white; empty clips them to 0 to 255. 8-bit values are
            shown as they are.
        question: which of several questions about one target is asked, one of QUESTIONS.
        question_seed: seed of `random`; the choice depends on it and on the sample only.
        components: whether each connected component of a color mask is a sample of its own.
        by_class: whether all COCO annotations, or polygons of rasters, of a class in an image are one sample.
        crowds: whether COCO annotations with `iscrowd` are targets.
        empty_images: whether COCO images without annotations become samples without target.
        mode: scoring mode, a key of geoclick.scoring.modes; published loaders of RefSegRS differ in the mask's values.
    """

    min_area: int = 256
    max_area_fraction: float = 0.5
    query: str = "the object"
    tile: int | None = None
    overlap: int = 128
    bands: tuple[int, ...] = ()
    stretch: tuple[float, ...] = (2.0, 98.0)
    question: str = "all"
    question_seed: int = 0
    components: bool = False
    by_class: bool = False
    crowds: bool = False
    empty_images: bool = False
    mode: str = "native"


@dataclass(frozen=True)
class LeftOut:
    """Something that a reader did not yield.

    Attributes:
        item: the sample, image or line concerned.
        reason: a few words, equal for everything that is left out for the same reason.
        error: one sentence with the fix if it is a failure; empty if the options or the data exclude it.
        count: number of samples, or of pixels where the reason says so; 1 where it is unknown.
    """

    item: str
    reason: str
    error: str = ""
    count: int = 1


OnLeftOut = Callable[[LeftOut], None]


class Reader(Protocol):
    """A reader: the function that reads one layout on disk."""

    def __call__(
        self, root: Path, split: str, options: ReadOptions, on_left_out: OnLeftOut
    ) -> "Iterator[Sample]":
        """The samples of one split.

        Their order is the same every time, and those of one image follow each other. Index files are read at once;
        images and masks are opened one by one as the samples are requested. Nothing outside the root is read.

        Args:
            root: the dataset's folder; `Sample.image` is relative to it.
            split: name of the split.
            options: see ReadOptions.
            on_left_out: called with everything that is not yielded; an exception that it raises ends the reading.

        Raises:
            UsageError: the folder does not have this layout or this split, or an option is out of its range.
            GeoClickError: an index file is broken; `on_left_out` decides about broken images, masks and records.
        """
        ...


def check_aspect(size: tuple[int, int]) -> None:
    """Raise GeoClickError for an image of `size` (height, width) that is too narrow for the models."""
    if max(size) > MAX_ASPECT * min(size):
        raise GeoClickError(
            f"An image of {size[1]}x{size[0]} pixels is too narrow: one side is more than {MAX_ASPECT} times "
            "the other; cut it into pieces."
        )


def raise_failures(left_out: LeftOut) -> None:
    """Raise GeoClickError for a failure, and ignore what the options or the data exclude."""
    if left_out.error:
        raise GeoClickError(left_out.error)


def is_file_in(root: Path, name: str | Path) -> bool:
    """Whether `root / name` is a file; raises GeoClickError if it lies outside `root` or is no valid file name."""
    try:
        return inside(root, name).is_file()
    except (OSError, ValueError) as error:
        raise GeoClickError(f"{str(name)[:80]!r} is no valid file name ({error}); fix it.") from error


def file_in(root: Path, name: str) -> Path:
    """The file `root / name`; raises GeoClickError if it does not exist, lies outside `root` or has no valid name."""
    if not is_file_in(root, name):
        raise GeoClickError(f"{inside(root, name)} does not exist; add the file or give another --root.")
    return inside(root, name)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an upright image, from its header; raises GeoClickError if it has none."""
    from geoclick.geo import reading

    return reading.image_size(path)


def check_size(image: str, size: tuple[int, ...], mask_size: tuple[int, ...]) -> None:
    """Raise GeoClickError unless the (height, width) of an image and of its mask are equal."""
    from geoclick.geo.reading import turned

    if tuple(size) != tuple(mask_size):
        raise GeoClickError(
            f"{image} is {size[1]}x{size[0]} pixels but its mask is {mask_size[1]}x{mask_size[0]}; "
            f"make them the same size.{turned(size, mask_size)}"
        )
