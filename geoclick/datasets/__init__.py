"""Datasets: one reader for each layout on disk; `read` yields the samples of any of them."""

from collections.abc import Iterator
from pathlib import Path

from geoclick.datasets import coco, earthreason, folder, phrase_lists, raster, rrsis_d, scenes_v1, semantic
from geoclick.datasets.reading import LeftOut, OnLeftOut, Reader, ReadOptions, raise_failures
from geoclick.datasets.sample import TASKS, Sample
from geoclick.errors import UsageError

__all__ = ["READERS", "TASKS", "LeftOut", "ReadOptions", "Sample", "raise_failures", "read", "root_of"]

READERS: dict[str, Reader] = {
    folder.NAME: folder.read,
    coco.NAME: coco.read,
    raster.NAME: raster.read,
    scenes_v1.NAME: scenes_v1.read,
    rrsis_d.NAME: rrsis_d.read,
    earthreason.NAME: earthreason.read,
    **phrase_lists.READERS,
    **semantic.READERS,
}
"""The reader of each value of `--dataset`."""


def root_of(dataset: str, root: str | None) -> str:
    """The dataset's folder; only scenes-v1, which is generated, has a default."""
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
    """The samples of a split, in an order that is the same every time.

    Args:
        dataset: a key of READERS.
        root: the dataset's folder.
        split: name of the split.
        options: options of the reader; None for the defaults.
        on_left_out: called with everything that is not yielded; the default raises the failures among them.

    Raises:
        UsageError: an unknown dataset, a missing root, or a root without this layout or split.
        GeoClickError: a broken file, unless `on_left_out` accepts failures.
    """
    if dataset not in READERS:
        raise UsageError(f"Unknown dataset {dataset!r}; choose one of {', '.join(READERS)}.")
    if dataset != scenes_v1.NAME and not Path(root).is_dir():
        raise UsageError(f"Dataset root {root} is not a folder; give --root an existing one.")
    return READERS[dataset](Path(root), split, options or ReadOptions(), on_left_out)
