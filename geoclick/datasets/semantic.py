"""The semantic benchmarks: a class at each pixel of an image, one sample for each image and class.

Where files lie and what labels mean stands in benchmarks.py. Every class is asked for in every image, in the table's
order, so that what is found where nothing is counts too: a class that an image lacks has an empty target. A list
`ROOT/SPLIT.txt` of image names, one a line, limits a split to these; it goes before a published list.
"""

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from geoclick import masks
from geoclick.datasets import label_pairs
from geoclick.datasets.benchmarks import BENCHMARKS, Benchmark, Layout
from geoclick.datasets.class_maps import IGNORED, read_class_map
from geoclick.datasets.reading import (
    LeftOut,
    OnLeftOut,
    ReadOptions,
    check_size,
    image_size,
    inside,
    raise_failures,
)
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError


def read(
    benchmark: Benchmark,
    root: str | Path,
    split: str,
    *,
    options: ReadOptions | None = None,
    on_left_out: OnLeftOut = raise_failures,
) -> Iterator[Sample]:
    """The samples of one split, image by image in the order of their stems, and class by class.

    A label is decoded once, when the first sample of its image is asked for.

    Args:
        benchmark: a semantic one.
        root: its folder; `Sample.image` is relative to it.
        split: stands in the names of its folders; where it does not, a list names it, or it is the scored one.
        options: not needed here.
        on_left_out: told of pixels with unknown label values, which do not count, and of failures: a label that is
            missing, broken or of another size than its image, a listed image that is not there.

    Raises:
        UsageError: the folder does not hold this benchmark, or not this split.
        GeoClickError: a file is broken, unless `on_left_out` takes failures.
    """
    root = Path(root)
    layout, found = label_pairs.find(benchmark, root, split)
    stems = label_pairs.listed(benchmark, layout, root, split)
    return _samples(
        benchmark, layout, root, split, label_pairs.chosen(found, stems, on_left_out), on_left_out
    )


READERS = {name: partial(read, table) for name, table in BENCHMARKS.items() if table.task == "semantic"}
"""The reader of each semantic benchmark."""


def _samples(
    benchmark: Benchmark,
    layout: Layout,
    root: Path,
    split: str,
    chosen: Iterator[label_pairs.Pair],
    on_left_out: OnLeftOut,
) -> Iterator[Sample]:
    for pair in chosen:
        try:
            size, classes, unknown = _read_pair(benchmark, layout, root, pair)
        except GeoClickError as error:
            on_left_out(LeftOut(pair.image, "broken image or label", str(error), len(benchmark.classes)))
            continue
        if unknown:
            on_left_out(LeftOut(pair.image, "pixels with unknown label values, ignored", count=unknown))
        common = {"dataset": benchmark.name, "split": split, "root": root, "image": pair.image, "size": size}
        yield from _of_image(benchmark, pair.stem, classes, common)


def _read_pair(
    benchmark: Benchmark, layout: Layout, root: Path, pair: label_pairs.Pair
) -> tuple[tuple[int, int], np.ndarray, int]:
    """The (height, width) of an image, its map of classes at that size, and how many of its pixels are unknown."""
    size = image_size(inside(root, pair.image))
    label = inside(root, pair.label)
    if not label.is_file():
        raise GeoClickError(f"{pair.image} has no label {pair.label}; add it or remove the image.")
    classes, unknown = read_class_map(label, benchmark, layout)
    check_size(pair.image, size, classes.shape)
    return size, classes, unknown


def _of_image(benchmark: Benchmark, stem: str, classes: np.ndarray, common: dict) -> Iterator[Sample]:
    """The samples of one image from its map of classes, uint8 [H, W]."""
    # RLE runs down the columns.
    columns = np.asfortranarray(classes)
    pixels = np.bincount(columns.ravel(order="K"), minlength=256)
    valid_rle = masks.encode_rle(columns != IGNORED) if pixels[IGNORED] else None
    for number, (name, words) in enumerate(zip(benchmark.names, benchmark.prompts, strict=True)):
        yield Sample(
            sample_id=f"{stem}/{name.replace(' ', '-')}",
            task="semantic",
            query=words[0],
            category=name,
            rle=masks.encode_rle(columns == number) if pixels[number] else _empty(classes.shape),
            valid_rle=valid_rle,
            **common,
        )


@lru_cache(maxsize=8)
def _empty(size: tuple[int, int]) -> dict:
    return masks.encode_rle(np.zeros(size, bool))
