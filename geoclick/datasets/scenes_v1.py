"""scenes-v1: the benchmark that ships with the package, drawn where it is first read.

1,000 samples of 334 procedural scenes that nothing was trained on: referring, reasoning and no target in equal shares.
Fixed by seed; the digest below shows that it came out the same, so that figures from two machines may be compared.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from geoclick.datasets import folder
from geoclick.datasets.reading import OnLeftOut, ReadOptions, raise_failures
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError, UsageError
from geoclick.scenes import drawing

NAME = "scenes-v1"
ROOT = Path("runs") / NAME
"""Where it is drawn when no other folder is named."""

SPLIT, COUNT, SEED = "test", 1000, 1_000_000
SHA256 = "69c5112487bc0e2b047535cfc53eb93c411fc5c4564c5d7e0e5caccc7e4c1faf"
"""Of `samples.jsonl`: every query, mask and path."""


def draw(root: Path) -> None:
    """Draw the benchmark below a folder, unless it is there already; raises GeoClickError if it came out otherwise."""
    index = root / SPLIT / "samples.jsonl"
    if not index.exists():
        options = drawing.SplitOptions(split=SPLIT, count=COUNT, seed=SEED)
        drawing.write_split(drawing.new_folder(root, SPLIT), options, os.cpu_count() or 1)
    if hashlib.sha256(index.read_bytes()).hexdigest() != SHA256:
        raise GeoClickError(
            f"{index} is not the {NAME} of this version of geoclick; remove {root} to draw it anew. If that does not "
            "help, numpy or Pillow draw otherwise here, and figures would not compare."
        )


def read(
    root: str | Path,
    split: str,
    *,
    options: ReadOptions | None = None,
    on_left_out: OnLeftOut = raise_failures,
) -> Iterator[Sample]:
    """The samples in order; arguments and errors as in `folder.read`, and UsageError for a split other than `test`."""
    if split != SPLIT:
        raise UsageError(
            f"{NAME} has the split {SPLIT} only, not {split}; it is for measuring, not for training."
        )
    draw(Path(root))
    samples = folder.read(root, split, options=options, on_left_out=on_left_out)
    return (replace(sample, dataset=NAME) for sample in samples)
