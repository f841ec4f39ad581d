"""What is to be scored: one pass over a split before anything is answered."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoclick.errors import GeoClickError

if TYPE_CHECKING:
    from geoclick.datasets import Sample


@dataclass(frozen=True)
class Survey:
    """The samples of a split, without keeping them.

    Attributes:
        ids: of the samples, in the dataset's order.
        images: different images.
        sizes: (height, width) of the smallest and of the largest image by area.
        images_sha256: of the images' names in the order of their first samples.
        samples_sha256: of all that the scores depend on but the images' pixels.
    """

    ids: list[str]
    images: int
    sizes: tuple[tuple[int, int], tuple[int, int]]
    images_sha256: str
    samples_sha256: str


def survey(samples: Iterable["Sample"]) -> Survey:
    """Look at every sample once; memory for their ids and the names of their images only.

    Raises:
        GeoClickError: there is no sample, or two have one id.
    """
    ids: dict[str, None] = {}
    seen: set[str] = set()
    names, facts = hashlib.sha256(), hashlib.sha256()
    sizes: set[tuple[int, int]] = set()
    for sample in samples:
        if sample.sample_id in ids:
            raise GeoClickError(f"Two samples have the id {sample.sample_id}; rename one.")
        ids[sample.sample_id] = None
        if sample.image not in seen:
            seen.add(sample.image)
            names.update(f"{sample.image}\n".encode())
            sizes.add(sample.size)
        told = [sample.sample_id, sample.query, sample.image, sample.rle]
        facts.update(json.dumps([*told, sample.valid_rle] if sample.valid_rle else told).encode())
    if not ids:
        raise GeoClickError("There is no sample to score; check --root and --split.")
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return Survey(list(ids), len(seen), (ordered[0], ordered[-1]), names.hexdigest(), facts.hexdigest())
