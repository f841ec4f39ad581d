"""A pool of Ray actors that works on items: starting or reaching the cluster, sharing its CPUs and GPUs, retries.

Ray is optional and is imported with this module. A worker has one item at a time, and Ray Data sends no further ones
while results wait for the driver: memory holds the items that are being worked on, whatever the number of all. Ray
replaces a worker that dies and gives its item to another one.
"""

import logging
import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypedDict, TypeVar

import numpy as np
import ray
import ray.data
from ray.exceptions import RayError, UserCodeException

from geoclick.errors import GeoClickError, UsageError, first_line

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

MAX_ATTEMPTS = 3
"""Attempts at one item, each of which ended with the death of its worker, before the job fails."""


class Setup(Protocol[T_contra, R_co]):
    """Prepares a worker before its first item; it is sent to the worker."""

    def __call__(self, device: str) -> Callable[[T_contra], R_co]:
        """The function to apply to each item, with its models on a device; raises GeoClickError if that fails."""

    def describe(self, item: T_contra) -> str:
        """The item and a fix, for the sentence on an item on which every worker dies."""


class Batch(TypedDict):
    """What Ray Data passes to a worker and gets from it: columns of one row."""

    index: np.ndarray
    attempts: np.ndarray
    result: np.ndarray


@dataclass(frozen=True)
class Pool:
    """The workers.

    Attributes:
        workers: their number.
        cpus: CPUs of each.
        gpus: GPUs of each: 1, a fraction of one, or 0.
    """

    workers: int
    cpus: int
    gpus: float

    @property
    def device(self) -> str:
        """The device of each worker's models; Ray shows a worker only its own GPU."""
        return "cuda" if self.gpus else "cpu"


@dataclass(frozen=True)
class Resources:
    """The cluster and the workers that the user has asked for.

    Attributes:
        device: auto, cpu or cuda.
        workers: their number; None for one per GPU, or one per CPU without GPUs.
        address: of the cluster's head; None uses the cluster of this machine, or starts one for the job.
    """

    device: str
    workers: int | None = None
    address: str | None = None


def plan(nodes: Sequence[Mapping[str, float]], items: int, *, workers: int | None, device: str) -> Pool:
    """The workers for a cluster, each with as many CPUs as all of them can have.

    Args:
        nodes: the resources of each node, by Ray's names CPU and GPU.
        items: their number; there are no more workers than items.
        workers: their number; None for one per GPU, or one per CPU without GPUs.
        device: auto, cpu or cuda.

    Raises:
        UsageError: `device` is cuda and there is no GPU, or there are too few CPUs.
    """
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = [int(node.get("GPU", 0)) if device != "cpu" else 0 for node in nodes]
    if device == "cuda" and not sum(gpus):
        raise UsageError("Ray has no GPU for --device cuda; use auto or cpu.")
    count = min(workers or sum(gpus) or max(1, sum(cpus)), items)
    sharing = math.ceil(count / sum(gpus)) if sum(gpus) else 0

    def places(each: int) -> int:
        """Number of workers that fit on the nodes with so many CPUs each."""
        if sharing:
            return sum(min(c // each, sharing * g) for c, g in zip(cpus, gpus, strict=True))
        return sum(c // each for c in cpus)

    if places(1) < count:
        fix = f"give --workers {places(1)} or less" if places(1) else "start its nodes with more"
        raise UsageError(f"Ray has CPUs for {places(1)} workers, not {count}; {fix}.")
    most = next(each for each in range(max(cpus), 0, -1) if places(each) >= count)
    return Pool(count, most, 1 / sharing if sharing else 0)


class Attempts:
    """An actor that counts the attempts at each item; Ray itself retries an item that kills its workers forever."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def begin(self, index: int) -> int:
        """Count one more attempt at an item, and return the number of attempts."""
        self.counts[index] = self.counts.get(index, 0) + 1
        return self.counts[index]


@dataclass
class Worker(Generic[T, R]):
    """An actor of the pool, which Ray Data calls with one item at a time.

    Attributes:
        setup: prepares the worker with its first item: errors are then returned like results.
        device: of its models.
        threads: threads of torch.
        folder: working directory of the driver; relative paths refer to it.
        items: references to the items, by index.
        attempts: actor that counts the attempts, shared by all workers.
        max_attempts: at one item.
    """

    setup: Setup[T, R]
    device: str
    threads: int
    folder: str
    items: "dict[int, ray.ObjectRef]"
    attempts: Any
    max_attempts: int = MAX_ATTEMPTS
    _function: Callable[[T], R] | None = None

    def __call__(self, batch: Batch) -> Batch:
        """Work on the item of column `index`; column `result` holds the result or a GeoClickError."""
        index = int(batch["index"][0])
        item = ray.get(self.items[index])
        attempts = ray.get(self.attempts.begin.remote(index))
        column = np.empty(1, object)
        try:
            column[0] = self.work(item, attempts)
        except GeoClickError as error:
            column[0] = error
        return {"index": np.array([index]), "attempts": np.array([attempts]), "result": column}

    def work(self, item: T, attempts: int) -> R:
        """The result of one item; raises GeoClickError if too many workers died on it."""
        if attempts > self.max_attempts:
            raise GeoClickError(
                f"{self.max_attempts} workers died, one after another, on {self.setup.describe(item)}"
            )
        if self._function is None:
            import torch

            torch.set_num_threads(self.threads)
            if Path(self.folder).is_dir():
                os.chdir(self.folder)
            self._function = self.setup(self.device)
        return self._function(item)


def run(
    setup: Setup[T, R], items: Mapping[int, T], on_result: Callable[[int, R], None], where: Resources
) -> None:
    """Work on all items.

    Args:
        setup: prepares each worker.
        items: by index.
        on_result: called in this process with each index and result, in the order in which they arrive.
        where: the cluster and its workers.

    Raises:
        UsageError: as `plan`.
        GeoClickError: a worker failed, or the cluster cannot be reached or fails.
    """
    died = 0
    with _cluster(where.address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        pool = plan(nodes, len(items), workers=where.workers, device=where.device)
        for row in _rows(_dataset(setup, items, pool)):
            if isinstance(row["result"], GeoClickError):
                raise row["result"]
            on_result(row["index"], row["result"])
            died += row["attempts"] - 1
    if died:
        print("1 worker died and was replaced." if died == 1 else f"{died} workers died and were replaced.")


def _dataset(setup: Setup[T, R], items: Mapping[int, T], pool: Pool) -> "ray.data.Dataset":
    worker = {
        "setup": setup,
        "device": pool.device,
        "threads": pool.cpus,
        "folder": str(Path.cwd()),
        "items": {index: ray.put(item) for index, item in items.items()},
        "attempts": ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote(),
        "max_attempts": MAX_ATTEMPTS,
    }
    indices = ray.data.from_items([{"index": index} for index in items], override_num_blocks=len(items))
    return indices.map_batches(
        Worker,
        batch_size=1,
        batch_format="numpy",
        # With more in flight, a worker could be idle at the end while an item waits for another one.
        compute=ray.data.ActorPoolStrategy(size=pool.workers, max_tasks_in_flight_per_actor=1),
        fn_constructor_kwargs=worker,
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
    )


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """A connection to Ray, unless there is one, without its log and its usage statistics."""
    if ray.is_initialized():
        yield
        return
    _check_head(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # At its default level it warns of every actor that Ray Data creates, bypassing Python's logging.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        with _stderr_closed():  # Ray reports there that it uses that level
            ray.init(
                address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at {address}" if address else "here"
        raise GeoClickError(
            f"Ray cannot be reached or started {where} ({first_line(error)}); give "
            "--ray-address the HOST:PORT of a cluster's head, or omit it to start one on this machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_head(address: str | None) -> None:
    """Raise GeoClickError if no cluster's head listens: Ray itself retries silently for minutes."""
    host, _, port = (address or "").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise GeoClickError(
            f"No Ray cluster answers at {address}; give --ray-address the HOST:PORT of its head, or omit it to "
            "start one on this machine."
        ) from error


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Discard what any library writes to the file descriptor of standard error."""
    saved = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _rows(data: "ray.data.Dataset") -> Iterator[dict[str, Any]]:
    """The rows of a dataset as they arrive; a failure of Ray itself, not of the workers' code, is a GeoClickError."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        yield from data.iter_rows()
    except UserCodeException:
        raise
    except RayError as error:
        raise GeoClickError(f"Ray failed ({first_line(error)}); rerun the command to continue.") from error
