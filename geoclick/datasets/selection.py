"""A part of a dataset's samples: a random pick, or the first ones."""

import hashlib
import heapq
from collections.abc import Iterable
from itertools import islice

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
        return hashlib.sha256(f"{seed}\0{sample.sample_id}".encode()).digest(), position

    picked = heapq.nsmallest(limit, enumerate(samples), key=rank)
    return [sample for _, sample in sorted(picked, key=lambda item: item[0])]
