"""One shard from its samples to its file, the same for every engine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from geoclick import store
from geoclick.data_synthesis.shards import progress
from geoclick.data_synthesis.shards.job import Job, run_shard
from geoclick.datasets import LeftOut, Sample
from geoclick.errors import GeoClickError
from geoclick.store import Row


@dataclass(frozen=True)
class Made:
    """A shard that is to be written.

    Attributes:
        rows: in the order of its samples.
        left_out: the samples and sequences that gave no row.
        seconds: that it took.
    """

    rows: list[Row]
    left_out: list[LeftOut]
    seconds: float


def make(job: Job, samples: Sequence[Sample], advance: Callable[[], None] = lambda: None) -> Made:
    """Click on the samples of one shard.

    Args:
        job: what it is made with.
        samples: the shard's.
        advance: called once for each sample.

    Raises:
        GeoClickError: the device ran out of memory.
    """
    begun, left_out = time.perf_counter(), []
    try:
        rows = run_shard(job, samples, on_left_out=left_out.append, advance=advance)
    except torch.OutOfMemoryError as error:
        raise GeoClickError(
            f"The device ran out of memory with --batch {job.batch} --image-batch {job.image_batch}; "
            "start the same command with smaller ones, it goes on from here."
        ) from error
    return Made(rows, left_out, time.perf_counter() - begun)


def write(output: Path, index: int, count: int, made: Made) -> None:
    """Write shard `index` of `count`, whole; the account first: a shard that is there is never made again."""
    progress.write_account(output, index, made.left_out, made.seconds)
    store.write_shard(output, index, count, made.rows)
