"""`geoclick synth --engine ray`: shards stream through a pool of Ray actors, each with a segmenter of its own.

The driver reads the samples, sends each shard's with its number, and writes what comes back, so the nodes of a
cluster share the images (and the checkpoint) with it, but not the output. A worker takes one shard at a time, and
Ray Data holds back when finished ones wait for the driver: memory holds as many shards as are at work, whatever
their number. Ray replaces a worker that dies and gives its shard to another one.
"""

import logging
import math
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import ray
import ray.data
from ray.exceptions import RayError, UserCodeException

from geoclick import store
from geoclick.data_synthesis.shards import shard
from geoclick.data_synthesis.shards.job import Job
from geoclick.datasets import Sample
from geoclick.errors import GeoClickError, UsageError, first_line
from geoclick.jobs import claims
from geoclick.segmenters.base import Segmenter

TRIES = 3
"""Workers that may die on one shard; that many have not met with an accident."""


@dataclass(frozen=True)
class Pool:
    """The workers.

    Attributes:
        workers: how many.
        cpus: that each has.
        gpus: that each has: 1, a share of one, or 0.
    """

    workers: int
    cpus: int
    gpus: float

    @property
    def device(self) -> str:
        """Where each has its segmenter; Ray shows a worker no GPU but its own."""
        return "cuda" if self.gpus else "cpu"


def plan(nodes: Sequence[dict[str, float]], shards: int, *, workers: int | None, device: str) -> Pool:
    """The workers for a cluster, each with as many CPUs as all of them can have.

    Args:
        nodes: the resources of each node, by Ray's names CPU and GPU.
        shards: that are to be made; no more workers than these.
        workers: as many as wanted, or None for one a GPU, else one a CPU.
        device: auto, cpu or cuda.

    Raises:
        UsageError: there is no GPU though one is asked for, or there are too few CPUs.
    """
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = [int(node.get("GPU", 0)) if device != "cpu" else 0 for node in nodes]
    if device == "cuda" and not sum(gpus):
        raise UsageError("Ray has no GPU for --device cuda; use auto or cpu.")
    count = min(workers or sum(gpus) or max(1, sum(cpus)), shards)
    sharing = math.ceil(count / sum(gpus)) if sum(gpus) else 0

    def room(each: int) -> int:
        """The workers that find a place with so many CPUs each."""
        if sharing:
            return sum(min(c // each, sharing * g) for c, g in zip(cpus, gpus, strict=True))
        return sum(c // each for c in cpus)

    if room(1) < count:
        fix = f"give --workers {room(1)} or less" if room(1) else "start its nodes with more"
        raise UsageError(f"Ray has CPUs for {room(1)} workers, not {count}; {fix}.")
    most = next(each for each in range(max(cpus), 0, -1) if room(each) >= count)
    return Pool(count, most, 1 / sharing if sharing else 0)


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Tries:
    """How often each shard was begun; Ray itself would begin one that kills its workers for ever."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def begin(self, index: int) -> int:
        """Count one more beginning of a shard, and return how many that makes."""
        self.counts[index] = self.counts.get(index, 0) + 1
        return self.counts[index]


@dataclass
class Worker:
    """One actor of the pool, called by Ray Data with one shard at a time.

    Attributes:
        job: the segmenter of which is loaded here, with the first shard: an error then comes back as a result does.
        sha256: of the weights that it must have.
        load: gives a segmenter on the device of its argument `device`.
        device: for it.
        threads: that the CPU's work is shared among.
        folder: of the driver, against which its paths are relative.
        samples: references to those of each shard, by its index.
        tries: the counter that all workers share.
        most_tries: on one shard.
    """

    job: Job
    sha256: str
    load: Callable[..., Segmenter]
    device: str
    threads: int
    folder: str
    samples: dict[int, ray.ObjectRef]
    tries: Any
    most_tries: int

    def __call__(self, shard: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Make a shard: from the column `index` to `index`, `tries` and `made`, which may be an error instead."""
        index = int(shard["index"][0])
        samples = ray.get(self.samples[index])
        tries = ray.get(self.tries.begin.remote(index))
        try:
            made = self._made(samples, tries)
        except GeoClickError as error:
            made = error
        column = np.empty(1, object)
        column[0] = made
        return {"index": np.array([index]), "tries": np.array([tries]), "made": column}

    def _made(self, samples: list[Sample], tries: int) -> shard.Made:
        if tries > self.most_tries:
            raise GeoClickError(
                f"{self.most_tries} workers died, one after another, on the shard of {samples[0].sample_id} to "
                f"{samples[-1].sample_id}; if memory ran out, start the same command with fewer --workers or a "
                "smaller --image-batch, it goes on from here."
            )
        if self.job.segmenter is None:
            self._begin(samples)
        return shard.make(self.job, samples)

    def _begin(self, samples: list[Sample]) -> None:
        """Settle on this node and load the segmenter; raises GeoClickError where the node lacks what it needs."""
        import torch

        torch.set_num_threads(self.threads)
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        node = ray.util.get_node_ip_address()
        if samples and not samples[0].root.is_dir():
            raise GeoClickError(
                f"Node {node} has no folder {samples[0].root}; give --root an absolute path that all nodes share."
            )
        segmenter = self.load(device=self.device)
        if segmenter.sha256 != self.sha256:
            raise GeoClickError(
                f"Node {node} has other weights of {segmenter.name}; give all nodes one --checkpoint."
            )
        self.job = replace(self.job, segmenter=segmenter)


def write_shards(
    output: Path,
    job: Job,
    split: Sequence[list[Sample]],
    held: BinaryIO,
    on_written: Callable[[int], None],
    *,
    load: Callable[..., Segmenter],
    device: str,
    workers: int | None,
    address: str | None,
) -> None:
    """Write the shards that are not there yet, each whole.

    Args:
        output: the store.
        job: what they are made with; its segmenter stays with the driver.
        split: the samples of each shard.
        held: the claims of the job.
        on_written: told of each shard, also of those that were there.
        load: gives a segmenter on the device of its argument `device`; it is sent to the workers.
        device: auto, cpu or cuda.
        workers: as in `plan`.
        address: of the cluster; None takes the one that this machine belongs to, or starts one for the job.

    Raises:
        UsageError: as `plan`.
        GeoClickError: what a worker could not do, a cluster that cannot be reached or breaks down, or another job
            that writes the store.
    """
    missing = sorted(set(range(len(split))) - store.finished_shards(output, len(split)))
    for index in set(range(len(split))) - set(missing):
        on_written(index)
    if not all(claims.acquire(held, 1 + index) for index in missing):
        raise GeoClickError(f"Another job is writing {output}; wait until it has ended, or stop it.")
    if not missing:
        return
    died = 0
    with _cluster(address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        pool = plan(nodes, len(missing), workers=workers, device=device)
        worker = {
            "job": replace(job, segmenter=None),
            "sha256": job.segmenter.sha256,
            "load": load,
            "device": pool.device,
            "threads": pool.cpus,
            "folder": str(Path.cwd()),
            "samples": {index: ray.put(split[index]) for index in missing},
            "tries": Tries.remote(),
            "most_tries": TRIES,
        }
        items = [{"index": index} for index in missing]
        made_shards = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            Worker,
            batch_size=1,
            batch_format="numpy",
            # More than one in flight would leave a worker idle at the end while another one has a shard in wait.
            compute=ray.data.ActorPoolStrategy(size=pool.workers, max_tasks_in_flight_per_actor=1),
            fn_constructor_kwargs=worker,
            num_cpus=pool.cpus,
            num_gpus=pool.gpus or None,
        )
        for row in _rows(made_shards, output):
            made = row["made"]
            if isinstance(made, GeoClickError):
                raise made
            shard.write(output, row["index"], len(split), made)
            on_written(row["index"])
            died += row["tries"] - 1
    if died:
        print("1 worker died and was replaced." if died == 1 else f"{died} workers died and were replaced.")


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """A connection to Ray, where there is none yet, that says little and reports nothing to its makers."""
    if ray.is_initialized():
        yield
        return
    _check_head(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # At its usual level it warns of every actor that Ray Data makes, past Python's logging.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        with _stderr_closed():  # where it says that it has taken that level
            ray.init(
                address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at {address}" if address else "here"
        raise GeoClickError(
            f"Ray cannot be reached or started {where} ({first_line(error)}); give "
            "--ray-address the HOST:PORT of a cluster's head, or none to start one on this machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_head(address: str | None) -> None:
    """Raise GeoClickError where no cluster's head listens: Ray itself tries again for minutes, in silence."""
    host, _, port = (address or "").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise GeoClickError(
            f"No Ray cluster answers at {address}; give --ray-address the HOST:PORT of its head, or none to "
            "start one on this machine."
        ) from error


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Nothing that this process writes to the file of standard error is seen, whatever library writes it."""
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _rows(data: ray.data.Dataset, output: Path) -> Iterator[dict[str, Any]]:
    """The rows of a dataset as they come; a breakdown of Ray, not of what runs on it, is a GeoClickError."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        yield from data.iter_rows()
    except UserCodeException:
        raise
    except RayError as error:
        raise GeoClickError(
            f"Ray broke down ({first_line(error)}); what is whole in {output} is kept: start "
            "the same command again, it goes on from here."
        ) from error
