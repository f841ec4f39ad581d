"""The dataset scan: one pass over the samples before any is answered."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick.datasets.selection import pick, pick_images
from geoclick.errors import GeoClickError
from geoclick.files import sha256_of_all
from geoclick.inference.evaluation.samples import read_samples, with_counter

if TYPE_CHECKING:
    from geoclick.datasets import LeftOut, Sample
    from geoclick.inference.evaluation.options import ResolvedOptions


@dataclass(frozen=True)
class DatasetScan:
    """What is known of the samples of a split without holding them in memory.

    Attributes:
        ids: of the samples, in the dataset's order.
        images: number of distinct images.
        sizes: (height, width) of the smallest and of the largest image by area.
        images_sha256: of the images' names, in the order of their first samples.
        samples_sha256: of everything that the scores depend on, except the images' pixels.
        pixels_sha256: of the contents of the image files, in the same order.
        newest: time of the last modification of an image file, in seconds, and the file.
        broken: number of skipped samples that cannot be read, by reason.
        left_out: number of samples left out by the options or the data, by reason.
        picked: the samples of a random pick; None if all are scored.
    """

    ids: list[str]
    images: int
    sizes: tuple[tuple[int, int], tuple[int, int]]
    images_sha256: str
    samples_sha256: str
    pixels_sha256: str
    newest: tuple[float, str]
    broken: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    picked: "Sequence[Sample] | None" = None


def scan_dataset(options: "ResolvedOptions") -> DatasetScan:
    """Scan the samples of the options."""
    left_out: list[LeftOut] = []
    samples = with_counter(read_samples(options, left_out))
    if options.limit is None:
        return scan(samples, left_out)
    picked = (pick_images if options.by_image else pick)(samples, options.limit, options.seed)
    return replace(scan(picked, left_out), picked=picked)


def scan(samples: Iterable["Sample"], left_out: Sequence["LeftOut"] = ()) -> DatasetScan:
    """Read every sample once; only their ids and the names of their images stay in memory.

    Args:
        samples: in the dataset's order.
        left_out: what the reader skips; it may grow while the samples are read.

    Raises:
        GeoClickError: there is no sample, or two have the same id.
    """
    ids: dict[str, None] = {}
    roots: dict[str, Path] = {}
    names, content = hashlib.sha256(), hashlib.sha256()
    sizes: set[tuple[int, int]] = set()
    for sample in samples:
        if sample.sample_id in ids:
            raise GeoClickError(f"Two samples have the id {sample.sample_id}; rename one.")
        ids[sample.sample_id] = None
        if sample.image not in roots:
            roots[sample.image] = sample.root
            names.update(f"{sample.image}\n".encode())
            sizes.add(sample.size)
        fields = [sample.sample_id, sample.query, sample.image, sample.rle]
        content.update(json.dumps([*fields, sample.valid_rle] if sample.valid_rle else fields).encode())
    if not ids:
        raise GeoClickError("There is no sample to score; check --root and --split.")
    files = [root / image for image, root in roots.items() if (root / image).is_file()]
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    broken: Counter[str] = Counter()
    by_choice: Counter[str] = Counter()
    for item in left_out:
        (broken if item.error else by_choice)[item.reason] += item.count
    return DatasetScan(
        ids=list(ids),
        images=len(roots),
        sizes=(by_area[0], by_area[-1]),
        images_sha256=names.hexdigest(),
        samples_sha256=content.hexdigest(),
        pixels_sha256=sha256_of_all(files),
        newest=max(((path.stat().st_mtime, str(path)) for path in files), default=(0.0, "")),
        broken=dict(broken),
        left_out=dict(by_choice),
    )
