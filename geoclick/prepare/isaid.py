"""iSAID: the images of DOTA with semantic masks in colours, to tiles of 896x896 pixels that overlap by 384.

Splits, counts and names are those of mmsegmentation. A side shorter than a tile is filled up on the right and at the
bottom: black in the picture, ignored in the label.
"""

from functools import partial
from pathlib import Path

import numpy as np

from geoclick.prepare import labels
from geoclick.prepare.jobs import Job, Split, by_rows_and_columns

COLOURS = {
    (0, 0, 0): 0,  # background
    (0, 0, 63): 1,  # ship
    (0, 63, 63): 2,  # store tank
    (0, 63, 0): 3,  # baseball diamond
    (0, 63, 127): 4,  # tennis court
    (0, 63, 191): 5,  # basketball court
    (0, 63, 255): 6,  # ground track field
    (0, 127, 63): 7,  # bridge
    (0, 127, 127): 8,  # large vehicle
    (0, 0, 127): 9,  # small vehicle
    (0, 0, 191): 10,  # helicopter
    (0, 0, 255): 11,  # swimming pool
    (0, 191, 127): 12,  # roundabout
    (0, 127, 191): 13,  # soccer ball field
    (0, 127, 255): 14,  # plane
    (0, 100, 155): 15,  # harbor
}
SUFFIX = "_instance_color_RGB"


def _read_label(path: Path, _size: tuple[int, int]) -> tuple[np.ndarray, int]:
    return labels.by_palette(path, COLOURS, ignored=255)


ISAID = Job(
    title="iSAID",
    splits={"val": Split(458, 11644), "train": Split(1411, 33978)},
    image="{split}/**/{image}.png",
    labels=(f"{{split}}/**/{{image}}{SUFFIX}.png",),
    parts={"image": r"P\d+"},
    read_label=_read_label,
    output=partial(by_rows_and_columns, suffix=SUFFIX),
    ignored=255,
    tile=(896, 896),
    overlap=384,
)
