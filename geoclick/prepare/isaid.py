"""iSAID: the images of DOTA with color masks, cut to tiles of 896x896 pixels that overlap by 384.

Splits, counts and names are those of mmsegmentation. An image smaller than a tile is padded on the right and at the
bottom: black in the image, ignored in the label.
"""

from functools import partial
from pathlib import Path

import numpy as np

from geoclick.prepare import labels
from geoclick.prepare.jobs import Job, Split, by_rows_and_columns

COLORS = labels.colors_of("isaid")
SUFFIX = "_instance_color_RGB"


def _read_label(path: Path, _size: tuple[int, int]) -> tuple[np.ndarray, int]:
    return labels.by_palette(path, COLORS, ignored=255)


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
