"""Inria Aerial Image Labeling: images of 5000x5000 pixels, cut to tiles of 1000x1000.

The test images of the dataset have no labels, so its train images are split: 27 for test and 27 for val, as listed by
SegEarth-OV, after FCtL. Folders and labels are those of its converter: `ann_dir/split_SPLIT` with 0 and 1.
"""

from pathlib import Path

import numpy as np

from geoclick.geo.tiles import Window
from geoclick.prepare import labels
from geoclick.prepare.jobs import Job, Split, by_columns_and_rows

TEST = {
    "austin": (1, 7, 12, 22, 24, 36),
    "chicago": (10, 14, 23, 26),
    "kitsap": (9, 14, 25, 34, 35, 36),
    "tyrol-w": (1, 3, 25, 36),
    "vienna": (3, 6, 9, 11, 15, 18, 20),
}
VAL = {
    "austin": (8, 9, 15, 17, 19, 27, 29),
    "chicago": (1, 6, 12, 24, 28),
    "kitsap": (5, 13, 18, 22, 30),
    "tyrol-w": (6, 10, 12, 19, 22, 24),
    "vienna": (7, 28, 29, 36),
}


def _names(cities: dict[str, tuple[int, ...]]) -> tuple[str, ...]:
    return tuple(f"{city}{number}" for city, numbers in cities.items() for number in numbers)


def _read_label(path: Path, _size: tuple[int, int]) -> tuple[np.ndarray, int]:
    """0 and 255 as 0 and 1, thresholded at 128; other values are counted as unknown."""
    values = labels.read_values(path)
    unknown = int(((values > 0) & (values < 255)).sum())
    return (values >= 128).astype(np.uint8), unknown


def _output(split: str, name: str, window: Window) -> tuple[str, str]:
    return by_columns_and_rows(f"split_{split}", name, window)


INRIA = Job(
    title="Inria",
    splits={"test": Split(27, 675, _names(TEST)), "val": Split(27, 675, _names(VAL))},
    image="images/{tile}.tif",
    labels=("gt/{tile}.tif",),
    parts={"tile": r"[a-z-]+\d+"},
    read_label=_read_label,
    output=_output,
    tile=(1000, 1000),
)
