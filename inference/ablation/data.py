"""The images of an ablation with all their samples, and what identifies them."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from geoclick import datasets
from geoclick.datasets import LeftOut, ReadOptions, Sample, selection
from geoclick.errors import GeoClickError
from geoclick.inference.ablation.options import AblateOptions
from geoclick.inference.evaluation import dataset_classes, dataset_scan
from geoclick.inference.evaluation.dataset_classes import DatasetClasses
from geoclick.yaml_file import Yaml


class Data(NamedTuple):
    """The images of an ablation.

    Attributes:
        images: the samples of each image.
        classes: of the dataset.
        decisive: what decides the scores besides the setting.
        about: the dataset, its size and what was left out.
        left_out: number of samples or pixels that the reader left out, by reason.
    """

    images: list[list[Sample]]
    classes: DatasetClasses
    decisive: dict[str, Yaml]
    about: dict[str, Yaml]
    left_out: dict[str, int]


def read(options: AblateOptions, root: Path, split: str) -> Data:
    """Read the samples of a split, and the hashes of its images and labels.

    Raises:
        UsageError: the root has no such layout or split, or one class only.
        GeoClickError: a file is broken, or there is no image.
    """
    classes = _classes(options, root, split)
    images, left_out = read_images(options, root, split)
    if not images:
        raise GeoClickError(f"{root} has no image in the split {split}; check --root and --split.")
    prompts = dict(zip(classes.names, map(list, classes.prompts.synonyms), strict=True))
    decisive: dict[str, Yaml] = identity(options, images) | {
        "prompts": {name: list(words) for name, words in prompts.items()},
        "seed": options.seed,
    }
    where: dict[str, Yaml] = {
        "root": str(root),
        "split": split,
        "images": len(images),
        "left_out": dict(left_out),
    }
    return Data(images, classes, decisive, decisive | where, dict(left_out))


def read_images(options: AblateOptions, root: Path, split: str) -> tuple[list[list[Sample]], Counter[str]]:
    """The samples of each chosen image, and the number of samples or pixels that the reader left out, by reason."""
    left_out: Counter[str] = Counter()

    def on_left_out(item: LeftOut) -> None:
        datasets.raise_failures(item)
        left_out[item.reason] += item.count

    pixels = options.pixels()
    reading = ReadOptions(bands=pixels.bands, stretch=pixels.stretch)
    stream = datasets.read(options.dataset, root, split, options=reading, on_left_out=on_left_out)
    return chosen_images(stream, options), left_out


def identity(options: AblateOptions, images: list[list[Sample]]) -> dict[str, Yaml]:
    """What identifies the samples, and how their images are read."""
    scan, pixels = dataset_scan.scan(sample for group in images for sample in group), options.pixels()
    return {
        "dataset": options.dataset,
        "samples_sha256": scan.samples_sha256,
        "pixels_sha256": scan.pixels_sha256,
        "bands": list(pixels.bands),
        "stretch": list(pixels.stretch),
    }


def chosen_images(samples: Iterable[Sample], options: AblateOptions) -> list[list[Sample]]:
    """The samples of each image of `--first` and `--limit`."""
    groups = enumerate(islice(selection.by_image(samples), options.first))
    if options.limit is None:
        return [group for _, group in groups]

    def rank(item: tuple[int, list[Sample]]) -> bytes:
        return hashlib.sha256(f"{options.seed}\0{item[1][0].image}".encode()).digest()

    picked = heapq.nsmallest(options.limit, groups, key=rank)
    return [group for _, group in sorted(picked, key=lambda item: item[0])]


def _classes(options: AblateOptions, root: Path, split: str) -> DatasetClasses:
    if options.dataset == "folder":
        return dataset_classes.of_folder(root, split)
    return dataset_classes.of_benchmark(datasets.BENCHMARKS[options.dataset])
