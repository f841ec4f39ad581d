"""`geoclick synth --engine ray`: shards made by a pool of Ray actors, each with its own segmenter.

The driver reads the samples, sends those of each shard, and writes the shards that return. So the nodes of a cluster
share the images (and the checkpoint) with it, but not the output.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import BinaryIO

from geoclick import store
from geoclick.data_synthesis.shards.job import Job, LoadSegmenter
from geoclick.data_synthesis.shards.make import Shard, make, write
from geoclick.datasets import Sample
from geoclick.errors import GeoClickError
from geoclick.jobs import claims, ray_pool
from geoclick.segmenters.base import Segmenter


@dataclass(frozen=True)
class ShardSetup:
    """Prepares a worker of the pool: it loads a segmenter and makes shards with it.

    Attributes:
        job: a segmenter to the job.
        load: loads the segmenter.
        sha256: of the weights that it must have.
    """

    job: Callable[[Segmenter], Job]
    load: LoadSegmenter
    sha256: str

    def __call__(self, device: str) -> Callable[[Sequence[Sample]], Shard]:
        """A function that makes a shard; raises GeoClickError if this node has other weights."""
        segmenter = self.load(device=device)
        if segmenter.sha256 != self.sha256:
            raise GeoClickError(
                f"Node {ray_pool.node()} has other weights of {segmenter.name}; give all nodes the same "
                "files of the segmenter."
            )
        return partial(_make_on_node, self.job(segmenter))

    def describe(self, item: Sequence[Sample]) -> str:
        """A shard and a fix, for the error about a shard on which every worker dies."""
        return (
            f"the shard of {item[0].sample_id} to {item[-1].sample_id}; if memory ran out, rerun the command with "
            "fewer --workers or a smaller --image-batch to continue."
        )


def _make_on_node(job: Job, samples: Sequence[Sample]) -> Shard:
    """Make a shard; raises GeoClickError if this node lacks the images."""
    if samples:
        ray_pool.check_folder(samples[0].root)
    return make(job, samples)


def write_shards(
    output: Path,
    job: Job,
    shards: Sequence[Sequence[Sample]],
    held: BinaryIO,
    on_written: Callable[[int], None],
    *,
    load: LoadSegmenter,
    where: ray_pool.Resources,
) -> None:
    """Write the shards that do not exist yet.

    Args:
        output: the store.
        job: how they are made; its segmenter stays in this process.
        shards: the samples of each.
        held: the claims of the job.
        on_written: called with each shard, also with those that exist.
        load: loads the segmenter of a worker.
        where: the cluster and its workers.

    Raises:
        UsageError: the cluster lacks the resources.
        GeoClickError: a worker failed, the cluster cannot be reached or fails, or another job is writing the store.
    """
    finished = store.finished_shards(output, len(shards))
    missing = [index for index in range(len(shards)) if index not in finished]
    for index in finished:
        on_written(index)
    claims.acquire_all(held, missing, output)
    if not missing:
        return

    def write_shard(index: int, shard: Shard) -> None:
        write(output, index, len(shards), shard)
        on_written(index)

    settings = {field.name: getattr(job, field.name) for field in fields(job) if field.name != "segmenter"}
    setup = ShardSetup(partial(Job, **settings), load, job.segmenter.sha256)
    ray_pool.run(setup, {index: shards[index] for index in missing}, write_shard, where)
