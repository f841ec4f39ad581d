"""A part of a dataset's samples: a random pick, or the first ones; of samples, or of images with all their samples."""

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from itertools import groupby, islice

from geoclick.datasets.sample import Sample
from geoclick.errors import UsageError


def check(limit: int | None, first: int | None) -> None:
    """Raise UsageError if both a random pick and the first samples are requested."""
    if limit and first:
        raise UsageError("--limit and --first exclude each other; give one of them.")


def select(
    samples: Iterable[Sample], *, limit: int | None = None, first: int | None = None, seed: int = 0
) -> list[Sample]:
    """Some of the samples, in the dataset's order.

    Args:
        samples: of a dataset.
        limit: size of a random pick; None takes all.
        first: number of samples that are read; None reads all.
        seed: of the pick.
    """
    read = islice(samples, first)
    return list(read) if limit is None else pick(read, limit, seed)


def pick(samples: Iterable[Sample], limit: int, seed: int) -> list[Sample]:
    """A random pick of `limit` samples, in the dataset's order.

    Each sample has a rank that depends on the seed and on its id only, so that the same samples are picked in whatever
    order the dataset lists them.
    """

    def rank(item: tuple[int, Sample]) -> tuple[bytes, int]:
        position, sample = item
        return _rank(seed, sample.sample_id), position

    picked = heapq.nsmallest(limit, enumerate(samples), key=rank)
    return [sample for _, sample in sorted(picked, key=lambda item: item[0])]


def by_image(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """The samples of each image; those of one image follow one another."""
    for _, group in groupby(samples, key=lambda sample: (sample.root, sample.image)):
        yield list(group)


def first_images(samples: Iterable[Sample], count: int) -> Iterator[Sample]:
    """The first samples, up to the end of the image at which there are `count` or more."""
    number = 0
    for group in by_image(samples):
        yield from group
        number += len(group)
        if number >= count:
            return


def pick_images(samples: Iterable[Sample], limit: int, seed: int) -> list[Sample]:
    """A random pick of images with all their samples, in the dataset's order.

    Images are added by a rank, which depends on the seed and on the name only, until there are `limit` samples or more.
    """
    picked: list[tuple[int, int, list[Sample]]] = []
    number = 0
    for position, group in enumerate(by_image(samples)):
        # The heap has the highest rank first.
        rank = -int.from_bytes(_rank(seed, group[0].image), "big")
        heapq.heappush(picked, (rank, position, group))
        number += len(group)
        while number - len(picked[0][2]) >= limit:
            number -= len(heapq.heappop(picked)[2])
    return [sample for _, _, group in sorted(picked, key=lambda item: item[1]) for sample in group]


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()
