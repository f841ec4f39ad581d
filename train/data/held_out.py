"""The samples that a training run is measured on while it goes: images that it does not learn from."""

import hashlib
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from geoclick import store
from geoclick.datasets import Sample


def pick(rows: Iterable[store.Row], root: str | Path, count: int) -> list[Sample]:
    """At least `count` samples of a click store where it has so many: all of some images.

    Which images follows from their names alone, so that every process and every restart finds the same. Of several
    sequences on one target the first stands for all.

    Args:
        rows: of the store.
        root: folder of its dataset.
        count: samples.

    Raises:
        GeoClickError: a chosen image is missing.
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
