"""Readers: one file for each layout on disk, each yielding Sample."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from geoclick.datasets import coco, earthreason, folder, phrase_lists, raster, rrsis_d, scenes_v1, semantic
from geoclick.datasets.reading import LeftOut, OnLeftOut, ReadOptions, raise_failures
from geoclick.datasets.sample import TASKS, Sample
from geoclick.errors import UsageError

__all__ = ["READERS", "TASKS", "LeftOut", "ReadOptions", "Sample", "raise_failures", "read", "root_of"]

READERS = {
    folder.NAME: folder.read,
    coco.NAME: coco.read,
    raster.NAME: raster.read,
    scenes_v1.NAME: scenes_v1.read,
    rrsis_d.NAME: rrsis_d.read,
    earthreason.NAME: earthreason.read,
    phrase_lists.REFSEGRS.name: partial(phrase_lists.read, phrase_lists.REFSEGRS),
    phrase_lists.RISBENCH.name: partial(phrase_lists.read, phrase_lists.RISBENCH),
    **semantic.READERS,
}


def root_of(dataset: str, root: str | None) -> str:
    """The dataset's folder as a command takes it; only scenes-v1, which draws itself, needs none named."""
    if root is None and dataset != scenes_v1.NAME:
        raise UsageError("Missing --root; give it the dataset's folder.")
    return root or str(scenes_v1.ROOT)


def read(
    dataset: str,
    root: str | Path,
    split: str,
    *,
    options: ReadOptions | None = None,
    on_left_out: OnLeftOut = raise_failures,
) -> Iterator[Sample]:
    """The samples of a split, in the reader's order, which is the same every time.

    Args:
        dataset: a key of READERS.
        root: the dataset's folder.
        split: the name of a split of it.
        options: choices that the layout leaves open.
        on_left_out: told of everything that is not yielded; raises failures unless another is given.

    Raises:
        UsageError: an unknown dataset, a missing root, or a root without this layout.
        GeoClickError: a broken file, unless `on_left_out` takes failures.
    """
    if dataset not in READERS:
        raise UsageError(f"Unknown dataset {dataset!r}; choose one of {', '.join(READERS)}.")
    if dataset != scenes_v1.NAME and not Path(root).is_dir():
        raise UsageError(f"Dataset root {root} is not a folder; give --root an existing one.")
    return READERS[dataset](root, split, options=options, on_left_out=on_left_out)
