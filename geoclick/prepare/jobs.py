"""The definition of a preparation job: names of the raw files, decoding of labels, cutting of images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoclick.geo.tiles import Window


@dataclass(frozen=True)
class Split:
    """One split of a public dataset.

    Attributes:
        images: published number of raw images.
        tiles: published number of tiles; None if it is not published.
        names: names of the raw images, or the first parts of them; empty for all images in the split's folder.
    """

    images: int
    tiles: int | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """How the public download of one dataset is converted to the layout of its reader.

    Attributes:
        title: the dataset's name in messages.
        splits: by name; the first one is the scored one.
        image: pattern of the published path of a raw image, from the first folder that is needed to identify it.
            `{part}` stands for an entry of `parts`, `{split}` for the split, `*` for one folder, `**/` for any number
            of folders. The parts, joined by `_`, are the image's name.
        labels: patterns of its label; the first one that exists is used.
        parts: regular expression of each part.
        read_label: (file, (height, width) of the image) -> the index map, uint8 [H, W], and the number of its pixels
            with unknown values; raises GeoClickError.
        output: (split, name, window) -> the names of a tile and of its label below the output.
        ignored: value of label pixels that are not scored; None if the prepared layout has none.
        tile: (height, width) of the tiles; None leaves images as they are.
        overlap: smallest overlap of neighboring tiles, in pixels.
    """

    title: str
    splits: dict[str, Split]
    image: str
    labels: tuple[str, ...]
    parts: dict[str, str]
    read_label: Callable[[Path, tuple[int, int]], tuple[np.ndarray, int]]
    output: Callable[[str, str, Window], tuple[str, str]]
    ignored: int | None = None
    tile: tuple[int, int] | None = None
    overlap: int = 0


def in_directories(split: str, name: str, suffix: str = "") -> tuple[str, str]:
    """The image `img_dir/SPLIT/NAME.png` and its label `ann_dir/SPLIT/NAMESUFFIX.png`."""
    return f"img_dir/{split}/{name}.png", f"ann_dir/{split}/{name}{suffix}.png"


def by_columns_and_rows(split: str, name: str, window: Window) -> tuple[str, str]:
    """Tiles named NAME_X0_Y0_X1_Y1, as mmsegmentation names those of Potsdam and Vaihingen; the ends are exclusive."""
    row, column, height, width = window
    return in_directories(split, f"{name}_{column}_{row}_{column + width}_{row + height}")


def by_rows_and_columns(split: str, name: str, window: Window, suffix: str = "") -> tuple[str, str]:
    """Tiles named NAME_Y0_Y1_X0_X1, as mmsegmentation names those of iSAID; the ends are exclusive."""
    row, column, height, width = window
    return in_directories(split, f"{name}_{row}_{row + height}_{column}_{column + width}", suffix)
