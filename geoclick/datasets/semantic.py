"""The semantic benchmarks: a class at each pixel of an image, one sample for each image and class.

benchmarks.py has the folders and the label values. Every class is a query about every image, in the table's order, so
that false positives are scored too: a class that an image lacks has an empty target. Where the score is the IoU of one
class, that class alone is a query. A list `ROOT/SPLIT.txt` of image
names, one per line, limits a split to these images; it takes precedence over a published list.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from geoclick import masks
from geoclick.datasets import label_pairs
from geoclick.datasets.benchmarks import BENCHMARKS, Benchmark, Layout
from geoclick.datasets.class_maps import IGNORED, read_class_map
from geoclick.datasets.reading import LeftOut, OnLeftOut, Reader, ReadOptions, check_size, image_size, inside
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError
from geoclick.masks import Rle


def read(
    benchmark: Benchmark, root: Path, split: str, options: ReadOptions, on_left_out: OnLeftOut
) -> Iterator[Sample]:
    """The samples by image, in the order of the stems, and by class.

    A label is decoded once, when the first sample of its image is requested. Pixels with unknown label values are
    reported and not scored. A listed image that is missing, and a label of another size than its image, are failures.
    No option is used.
    """
    layout, pairs = label_pairs.find(benchmark, root, split)
    stems = label_pairs.listed(benchmark, layout, root, split)
    selected = label_pairs.select(pairs, stems, on_left_out)
    return _samples(benchmark, layout, root, split, selected, on_left_out)


READERS: dict[str, Reader] = {
    name: partial(read, benchmark) for name, benchmark in BENCHMARKS.items() if benchmark.task == "semantic"
}


def _samples(
    benchmark: Benchmark,
    layout: Layout,
    root: Path,
    split: str,
    pairs: Iterator[label_pairs.Pair],
    on_left_out: OnLeftOut,
) -> Iterator[Sample]:
    for pair in pairs:
        try:
            size, classes, unknown = _read_pair(benchmark, layout, root, pair)
        except GeoClickError as error:
            on_left_out(LeftOut(pair.image, "broken image or label", str(error), len(_asked(benchmark))))
            continue
        if unknown:
            on_left_out(LeftOut(pair.image, "pixels with unknown label values, ignored", count=unknown))
        sample = partial(
            Sample,
            dataset=benchmark.name,
            split=split,
            task="semantic",
            root=root,
            image=pair.image,
            size=size,
        )
        if (classes == IGNORED).all():
            on_left_out(LeftOut(pair.image, "no pixel that is scored", count=len(_asked(benchmark))))
            continue
        yield from _of_image(benchmark, pair.stem, classes, sample)


def _asked(benchmark: Benchmark) -> list[int]:
    """The numbers of the classes that are queries."""
    if benchmark.foreground is not None:
        return [benchmark.foreground]
    return list(range(len(benchmark.classes)))


def _read_pair(
    benchmark: Benchmark, layout: Layout, root: Path, pair: label_pairs.Pair
) -> tuple[tuple[int, int], np.ndarray, int]:
    """The (height, width) of an image, its class map and the number of its unknown pixels."""
    size = image_size(inside(root, pair.image))
    label = inside(root, pair.label)
    if not label.is_file():
        raise GeoClickError(f"{pair.image} has no label {pair.label}; add it or remove the image.")
    classes, unknown = read_class_map(label, benchmark, layout)
    check_size(pair.image, size, classes.shape)
    return size, classes, unknown


def _of_image(
    benchmark: Benchmark, stem: str, classes: np.ndarray, sample: Callable[..., Sample]
) -> Iterator[Sample]:
    """The samples of one image from its class map, uint8 [H, W]; `sample` lacks what differs between them."""
    # RLE runs down the columns.
    columns = np.asfortranarray(classes)
    pixels = np.bincount(columns.ravel(order="K"), minlength=256)
    valid_rle = masks.encode_rle(columns != IGNORED) if pixels[IGNORED] else None
    for number in _asked(benchmark):
        name, words = benchmark.names[number], benchmark.prompts[number]
        yield sample(
            sample_id=f"{stem}/{name.replace(' ', '-')}",
            query=words[0],
            category=name,
            rle=masks.encode_rle(columns == number) if pixels[number] else _empty(classes.shape),
            valid_rle=valid_rle,
        )


@lru_cache(maxsize=8)
def _empty(size: tuple[int, int]) -> Rle:
    return masks.encode_rle(np.zeros(size, bool))
