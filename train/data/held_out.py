"""The samples that a training run is evaluated on: those of images that it does not train on."""

import hashlib
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from geoclick import store
from geoclick.datasets import Sample


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
    ordered = sorted(samples.values(), key=lambda s: (hashlib.sha256(s.image.encode()).digest(), s.image))
    chosen: list[Sample] = []
    for image, group in groupby(ordered, key=lambda s: s.image):
        if len(chosen) >= count:
            break
        store.existing_image(Path(root), image)
        chosen += group
    return chosen
