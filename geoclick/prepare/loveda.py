"""LoveDA: the Urban and Rural images of a split in one folder, not cut; labels are 1 to 7, and 0 for no data."""

from pathlib import Path

import numpy as np

from geoclick.geo.tiles import Window
from geoclick.prepare import labels
from geoclick.prepare.jobs import Job, Split, in_directories


def _read_label(path: Path, _size: tuple[int, int]) -> tuple[np.ndarray, int]:
    return labels.by_value(path, 7, ignored=0)


def _output(split: str, name: str, _window: Window) -> tuple[str, str]:
    return in_directories(split, name)


LOVEDA = Job(
    title="LoveDA",
    splits={"val": Split(1669, 1669), "train": Split(2522, 2522)},
    image="{split}/*/images_png/{image}.png",
    labels=("{split}/*/masks_png/{image}.png",),
    parts={"image": r"\d+"},
    read_label=_read_label,
    output=_output,
    ignored=0,
)
