"""The samples that a training run is evaluated on: those of images that it does not train on."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from geoclick import files, store
from geoclick.datasets import Sample
from geoclick.train.data.row_file import StoreFile
from geoclick.train.options.mixture import Source


def select(rows: Iterable[store.Row], root: str | Path, count: int) -> list[Sample]:
    """At least `count` samples of a click store, if it has as many: all samples of some images.

    The choice depends on the names of the images alone, so that it is the same in every process and after a restart.
    Several sequences on one target are one sample.

    Args:
        rows: of the store.
        root: folder of its dataset.
        count: number of samples.

    Raises:
        GeoClickError: a selected image is missing.
    """
    samples: dict[tuple[str, str, str], Sample] = {}
    for row in rows:
        sample = Sample(
            sample_id=row.sample_id,
            dataset=row.dataset,
            split=row.split,
            task=row.task,
            query=row.query,
            root=Path(root),
            image=row.image,
            size=(row.height, row.width),
            rle=row.mask,
            category=row.category,
        )
        samples.setdefault((row.image, row.query, row.mask["counts"]), sample)
    chosen = of_some_images(samples.values(), count)
    for image in dict.fromkeys(sample.image for sample in chosen):
        store.existing_image(Path(root), image)
    return chosen


def of_some_images(samples: Iterable[Sample], count: int) -> list[Sample]:
    """At least `count` samples, if there are as many: all samples of some images, chosen by the images' names alone."""
    ordered = sorted(samples, key=lambda sample: _place(sample.image))
    chosen: list[Sample] = []
    for _, group in groupby(ordered, key=lambda sample: sample.image):
        if len(chosen) >= count:
            break
        chosen += group
    return chosen


def select_of_store(clicks: StoreFile, root: str | Path, count: int) -> list[Sample]:
    """As `select`, without reading rows of other images than those selected and a few more."""
    names, image = clicks.file.categories("image")
    ordered = sorted(range(len(names)), key=lambda number: _place(names[number]))
    for images in (2**power for power in range(len(names).bit_length() + 1)):
        numbers = np.flatnonzero(np.isin(image, ordered[:images]))
        chosen = select(clicks.rows(numbers.tolist()), root, count)
        if len(chosen) >= count:
            return chosen
    return chosen


def _place(image: str) -> tuple[bytes, str]:
    """Where an image is in the order of selection."""
    return hashlib.sha256(image.encode()).digest(), image


def of_sources(sources: Sequence[Source], count: int) -> list[Sample]:
    """At least `count` samples of some click stores, the same number of each; see `select`.

    Args:
        sources: with chats, which are not evaluated.
        count: number of samples.

    Raises:
        GeoClickError: as in `select`.
    """
    stores = {(source.path, source.root): source.name for source in sources if not source.is_chats}
    samples: dict[tuple[Path, str, str], Sample] = {}
    for (path, root), name in stores.items():
        for sample in select_of_store(StoreFile(path), root, -(-count // len(stores))):
            if len(stores) > 1:
                # Stores may use the same ids.
                sample = dataclasses.replace(sample, sample_id=f"{name}/{sample.sample_id}")
            samples.setdefault((image_path(sample), sample.query, sample.rle["counts"]), sample)
    return list(samples.values())


def image_path(sample: Sample) -> Path:
    """The absolute path of a sample's image."""
    return files.inside(sample.root, sample.image)


def image_paths(samples: Iterable[Sample]) -> set[str]:
    """The absolute paths of the images of samples."""
    images = {(sample.root, sample.image) for sample in samples}
    return {str(files.inside(root, image)) for root, image in images}
