"""scenes-v1: the benchmark that comes with the package, generated when it is first read.

1,000 samples of 334 procedural scenes on which nothing was trained: referring, reasoning and no target in equal shares.
The split is `test`. The seed is fixed, and a digest of the samples is checked, so that scores of two machines can be
compared.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from geoclick import files, output_folder
from geoclick.datasets import folder as folders
from geoclick.datasets.reading import OnLeftOut, ReadOptions
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError, UsageError
from geoclick.scenes import drawing

NAME = "scenes-v1"
SPLIT, COUNT, SEED = "test", 1000, 1_000_000
SHA256 = "69c5112487bc0e2b047535cfc53eb93c411fc5c4564c5d7e0e5caccc7e4c1faf"
"""Of `samples.jsonl`: every query, mask and path."""

PATIENCE = 600.0
"""Seconds to wait for another command that is generating the benchmark."""


def draw(root: Path) -> None:
    """Generate the benchmark in a folder unless it is there; raises GeoClickError if its digest is another one."""
    folder = root / SPLIT
    index = folder / "samples.jsonl"
    if not index.exists():
        options = drawing.SplitOptions(split=SPLIT, count=COUNT, seed=SEED)
        with output_folder.locked(folder / output_folder.LOCK, folder, "scenes", patience=PATIENCE):
            if not index.exists():
                drawing.write_split(folder, options, os.cpu_count() or 1)
    if files.sha256(index) != SHA256:
        raise GeoClickError(
            f"{index} is not the {NAME} of this version of geoclick; remove {root} to generate it again. If that does "
            "not help, numpy or Pillow draw differently on this machine, and scores cannot be compared."
        )


def read(root: Path, split: str, options: ReadOptions, on_left_out: OnLeftOut) -> Iterator[Sample]:
    """The samples in the order of `samples.jsonl`; raises UsageError for a split other than `test`."""
    if split != SPLIT:
        raise UsageError(
            f"{NAME} has the split {SPLIT} only, not {split}; it is for measuring, not for training."
        )
    draw(root)
    return (replace(sample, dataset=NAME) for sample in folders.read(root, split, options, on_left_out))
