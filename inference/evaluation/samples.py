"""The samples of an evaluation, read from the dataset."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING

from geoclick.errors import GeoClickError
from geoclick.jobs import processes
from geoclick.progress_bar import track

if TYPE_CHECKING:
    import numpy as np

    from geoclick.datasets import LeftOut, Sample
    from geoclick.inference.evaluation.options import ResolvedOptions


def read_samples(options: "ResolvedOptions", left_out: "list[LeftOut] | None" = None) -> "Iterator[Sample]":
    """The samples of the split, in the dataset's order; `--limit` picks among them.

    Args:
        options: with `first`, only the first samples, or by image; with `skip_broken`, those that cannot be read are
            skipped.
        left_out: a list to which everything that is skipped is added.

    Raises:
        GeoClickError: a sample cannot be read, without `skip_broken`.
    """
    from geoclick import datasets
    from geoclick.datasets import selection

    def on_left_out(item: "LeftOut") -> None:
        if not options.skip_broken:
            datasets.raise_failures(item)
        if left_out is not None:
            left_out.append(item)

    stream = datasets.read(
        options.dataset, options.root, options.split, options=options.reading(), on_left_out=on_left_out
    )
    if options.skip_broken:
        stream = _usable(stream, on_left_out)
    if options.by_image and options.first:
        return selection.first_images(stream, options.first)
    return islice(stream, options.first)


def _usable(samples: "Iterator[Sample]", on_left_out: "Callable[[LeftOut], None]") -> "Iterator[Sample]":
    """The samples whose images can be read and are not too narrow for the models."""
    from geoclick.datasets import LeftOut
    from geoclick.datasets.reading import check_aspect

    for image, group in groupby(samples, key=lambda sample: sample.image):
        of_image = list(group)
        try:
            check_aspect(of_image[0].size)
            of_image[0].read_image()
        except GeoClickError as error:
            on_left_out(LeftOut(image, "image that cannot be used", f"{image}: {error}", len(of_image)))
        else:
            yield from of_image


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
