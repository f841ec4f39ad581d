"""What a preparation job is: raw files by their published names, how labels are read, how pictures are cut."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoclick.geo.tiles import Window


@dataclass(frozen=True)
class Split:
    """One split of a public set.

    Attributes:
        images: how many raw images it has as published.
        tiles: how many pictures are published to come out of them; None where nobody says.
        names: the raw images it is made of, or the first parts of their names; empty for all in the split's folder.
    """

    images: int
    tiles: int | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """How one public set becomes what its reader reads.

    Attributes:
        title: the set's name as printed.
        splits: by name; the first one is the one that is scored.
        image: the published name of a raw image, with as many folders above it as tell it from others. `{part}` stands
            for what `parts` says, `{split}` for the split, `*` for one folder, `**/` for any. The parts, joined by
            `_`, are the image's name.
        labels: the same for its label; the first that is there is taken.
        parts: what each part looks like, a regular expression.
        read_label: (file, (height, width) of the image) -> the index map, uint8 [H, W], and how many of its pixels
            have a value that the set does not name; raises GeoClickError.
        output: (split, name, window) -> the names of a picture and of its label below the output.
        ignored: the value of label pixels that do not count; None where the prepared layout has none.
        tile: (height, width) of the tiles; None leaves images as they are.
        overlap: pixels that neighboring tiles share at least.
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
    """The picture `img_dir/SPLIT/NAME.png` and its label `ann_dir/SPLIT/NAMESUFFIX.png`."""
    return f"img_dir/{split}/{name}.png", f"ann_dir/{split}/{name}{suffix}.png"


def by_columns_and_rows(split: str, name: str, window: Window) -> tuple[str, str]:
    """Tiles named NAME_X0_Y0_X1_Y1, as mmsegmentation names those of Potsdam and Vaihingen; the ends are exclusive."""
    row, column, height, width = window
    return in_directories(split, f"{name}_{column}_{row}_{column + width}_{row + height}")


def by_rows_and_columns(split: str, name: str, window: Window, suffix: str = "") -> tuple[str, str]:
    """Tiles named NAME_Y0_Y1_X0_X1, as mmsegmentation names those of iSAID; the ends are exclusive."""
    row, column, height, width = window
    return in_directories(split, f"{name}_{row}_{row + height}_{column}_{column + width}", suffix)
