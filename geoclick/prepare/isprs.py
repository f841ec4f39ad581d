"""ISPRS Potsdam and Vaihingen: large images with eroded color labels, cut to tiles of 512x512 pixels.

Splits and counts are those of mmsegmentation, which open-vocabulary evaluations use. The images of Vaihingen show near
infrared, red and green as red, green and blue.
"""

from pathlib import Path

import numpy as np

from geoclick.prepare import labels
from geoclick.prepare.jobs import Job, Split, by_columns_and_rows

COLORS = labels.colors_of("potsdam")
"""Vaihingen has the same; the eroded boundaries are black, which is ignored."""


def _read_label(path: Path, _size: tuple[int, int]) -> tuple[np.ndarray, int]:
    return labels.by_palette(path, COLORS, ignored=0)


POTSDAM = Job(
    title="Potsdam",
    splits={
        "val": Split(
            14,
            2016,
            (
                *("2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15"),
                *("5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13"),
            ),
        ),
        "train": Split(
            24,
            3456,
            tuple(f"{row}_{column}" for row in range(2, 8) for column in range(10 if row < 6 else 7, 13)),
        ),
    },
    image="top_potsdam_{tile}_RGB.tif",
    labels=("top_potsdam_{tile}_label_noBoundary.tif",),
    parts={"tile": r"\d+_\d+"},
    read_label=_read_label,
    output=by_columns_and_rows,
    ignored=0,
    tile=(512, 512),
)

VAIHINGEN = Job(
    title="Vaihingen",
    splits={
        "val": Split(
            17,
            398,
            tuple(f"area{n}" for n in (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38)),
        ),
        "train": Split(
            16,
            344,
            tuple(f"area{n}" for n in (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37)),
        ),
    },
    # Labels that are not eroded have the names of the images, so the folder is part of the pattern.
    image="top/top_mosaic_09cm_{area}.tif",
    labels=("top_mosaic_09cm_{area}_noBoundary.tif",),
    parts={"area": r"area\d+"},
    read_label=_read_label,
    output=by_columns_and_rows,
    ignored=0,
    tile=(512, 512),
)
