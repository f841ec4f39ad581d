"""UAVid: frames of 4K drone videos with color labels, cut to tiles of 1080 rows and 1280 columns.

Moving and static cars become one class. The sequences of a split are identified by their numbers, so the folder above
them (`uavid_test`, `test_gt`, ...) may have any name. Tiling and names are those of SegEarth-OV.
"""

from pathlib import Path

import numpy as np

from geoclick.prepare import labels
from geoclick.prepare.jobs import Job, Split, by_rows_and_columns

COLORS = labels.colors_of("uavid")


def _read_label(path: Path, _size: tuple[int, int]) -> tuple[np.ndarray, int]:
    return labels.by_palette(path, COLORS, ignored=255)


def _sequences(*numbers: int) -> tuple[str, ...]:
    return tuple(f"seq{number}" for number in numbers)


UAVID = Job(
    title="UAVid",
    splits={
        "test": Split(150, names=_sequences(*range(21, 31), *range(38, 43))),
        "val": Split(70, names=_sequences(*range(16, 21), 36, 37)),
        "train": Split(200, names=_sequences(*range(1, 16), *range(31, 36))),
    },
    image="{sequence}/Images/{frame}.png",
    labels=("{sequence}/Labels/{frame}.png",),
    parts={"sequence": r"seq\d+", "frame": r"\d+"},
    read_label=_read_label,
    output=by_rows_and_columns,
    ignored=255,
    tile=(1080, 1280),
)
