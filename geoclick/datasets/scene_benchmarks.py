"""scenes-v1 and scenes-v2: the benchmarks that come with the package, generated when they are first read.

They have procedural scenes on which nothing was trained; the split is `test`. scenes-v1: 1,000 samples of 334 scenes,
referring, reasoning and no target in equal shares. scenes-v2: 1,500 samples of 250 scenes with groups and objects that
are hard to segment; equal shares of referring, reasoning, no target, all of a kind ("the red vehicles"), several
objects by their purpose ("everything that holds fuel"), and hard (thin, ringed, concave, partly hidden, touching others
of their kind, or in nearly the color of the ground). The seeds are fixed, and a digest of the samples is checked, so
that scores of two machines can be compared.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from geoclick import files, output_folder
from geoclick.datasets import folder as folders
from geoclick.datasets.reading import OnLeftOut, Reader, ReadOptions
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError, UsageError
from geoclick.scenes import drawing

SPLIT = "test"

PATIENCE = 600.0
"""Seconds to wait for another command that is generating a benchmark."""


@dataclass(frozen=True, kw_only=True)
class SceneBenchmark:
    """A fixed set of scenes.

    Attributes:
        name: the value of `--dataset`.
        options: that determine the samples.
        sha256: of `samples.jsonl`: every query, mask and path.
    """

    name: str
    options: drawing.SplitOptions
    sha256: str


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        SceneBenchmark(
            name="scenes-v1",
            options=drawing.SplitOptions(split=SPLIT, count=1000, seed=1_000_000),
            sha256="69c5112487bc0e2b047535cfc53eb93c411fc5c4564c5d7e0e5caccc7e4c1faf",
        ),
        SceneBenchmark(
            name="scenes-v2",
            options=drawing.SplitOptions(
                split=SPLIT, count=1500, seed=2_000_000, tasks=drawing.VARIED_TASKS, version=2
            ),
            sha256="ad7833ddfc5ebed906e0993ee882c4de6e2e04c7e2673378da3bf4e7c6d84b3e",
        ),
    )
}
"""The benchmarks by name."""


def draw(name: str, root: Path) -> None:
    """Generate a benchmark in a folder unless it is there; raises GeoClickError if its digest is another one."""
    benchmark, folder = BENCHMARKS[name], root / SPLIT
    index = folder / "samples.jsonl"
    if not index.exists():
        with output_folder.locked(folder / output_folder.LOCK, folder, "scenes", patience=PATIENCE):
            if not index.exists():
                drawing.write_split(folder, benchmark.options, os.cpu_count() or 1)
    if files.sha256(index) != benchmark.sha256:
        raise GeoClickError(
            f"{index} is not the {name} of this version of geoclick; remove {root} to generate it again. If that does "
            "not help, numpy or Pillow draw differently on this machine, and scores cannot be compared."
        )


def _read(
    root: Path, split: str, options: ReadOptions, on_left_out: OnLeftOut, *, name: str
) -> Iterator[Sample]:
    """The samples in the order of `samples.jsonl`; raises UsageError for a split other than `test`."""
    if split != SPLIT:
        raise UsageError(
            f"{name} has the split {SPLIT} only, not {split}; it is for measuring, not for training."
        )
    draw(name, root)
    return (replace(sample, dataset=name) for sample in folders.read(root, split, options, on_left_out))


READERS: dict[str, Reader] = {name: partial(_read, name=name) for name in BENCHMARKS}
