"""The samples of an evaluation, read from the dataset."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from geoclick.jobs import processes
from geoclick.progress_bar import track

if TYPE_CHECKING:
    import numpy as np

    from geoclick.datasets import LeftOut, Sample
    from geoclick.inference.evaluation.options import ResolvedOptions


def read_samples(options: "ResolvedOptions", left_out: "list[LeftOut] | None" = None) -> "Iterator[Sample]":
    """The samples of the split, in the dataset's order; `--limit` picks among them.

    Args:
        options: with `first`, only the first samples; with `skip_broken`, those that cannot be read are skipped.
        left_out: a list to which everything that is skipped is added.

    Raises:
        GeoClickError: a sample cannot be read, without `skip_broken`.
    """
    from geoclick import datasets

    def on_left_out(item: "LeftOut") -> None:
        if not options.skip_broken:
            datasets.raise_failures(item)
        if left_out is not None:
            left_out.append(item)

    stream = datasets.read(
        options.dataset, options.root, options.split, options=options.reading(), on_left_out=on_left_out
    )
    return islice(stream, options.first)


def with_counter(samples: "Iterable[Sample]") -> "Iterator[Sample]":
    """The same samples, with their count shown in the terminal: scanning a large dataset takes minutes."""
    yield from track(samples, "scanning the samples", shown=processes.is_first(), transient=True)


def read_images(samples: "Sequence[Sample]") -> "list[np.ndarray]":
    """The image of each sample, uint8 [H, W, 3] RGB; samples on one image share the array."""
    arrays: dict[str, np.ndarray] = {}
    for sample in samples:
        if sample.image not in arrays:
            arrays[sample.image] = sample.read_image()
    return [arrays[sample.image] for sample in samples]
