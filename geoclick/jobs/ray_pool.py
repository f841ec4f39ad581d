"""A pool of Ray actors that works on items: starting or reaching the cluster, sharing its CPUs and GPUs, retries.

Ray is optional and is imported with this module. A worker has one item at a time, and the next one is taken from the
iterator of items when a worker is free: memory holds the items that are being worked on, whatever the number of all. A
worker that dies is replaced, and its item goes to the next free one.
"""

import logging
import math
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from geoclick.errors import GeoClickError, UsageError, first_line
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from ray.actor import ActorHandle

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
        """The item and a fix, for the error about an item on which every worker dies."""


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


@dataclass
class Worker(Generic[T, R]):
    """An actor of the pool.

    Attributes:
        setup: prepares the worker with its first item: errors are then returned like results.
        device: of its models.
        threads: threads of torch.
        folder: working directory of the driver; relative paths refer to it.
    """

    setup: Setup[T, R]
    device: str
    threads: int
    folder: str
    _function: Callable[[T], R] | None = None

    def ready(self) -> None:
        """Return: the actor has started."""

    def answer(self, item: T) -> R | GeoClickError:
        """The result of one item, or the error."""
        try:
            return self.work(item)
        except GeoClickError as error:
            return error

    def work(self, item: T) -> R:
        """The result of one item."""
        if self._function is None:
            import torch

            torch.set_num_threads(self.threads)
            if Path(self.folder).is_dir():
                os.chdir(self.folder)
            self._function = self.setup(self.device)
        return self._function(item)


@dataclass
class _Task(Generic[T]):
    """An item with its index and the number of workers that began it."""

    index: int
    item: T
    attempts: int = 0


class _Call(NamedTuple, Generic[T]):
    """An open call of a worker; `task` is None while the worker starts."""

    worker: "ActorHandle"
    task: _Task[T] | None


class Workers(Generic[T, R]):
    """Workers that have been started, see `opened`; their models stay loaded from one `run` to the next.

    Attributes:
        pool: their number and resources.
    """

    def __init__(self, setup: Setup[T, R], pool: Pool) -> None:
        self.pool = pool
        self._setup, self._sent = setup, ray.put(setup)
        self._idle: list[ActorHandle] = []
        self._calls: dict[ray.ObjectRef, _Call[T]] = {}
        self._failed_starts = 0
        for _ in range(pool.workers):
            self._start()

    def run(self, items: Iterable[tuple[int, T]], on_result: Callable[[int, R], None]) -> None:
        """Work on all items.

        Args:
            items: with their indices; the next one is taken when a worker is about to be free.
            on_result: called in this process with each index and result, in the order in which they arrive.

        Raises:
            GeoClickError: a worker failed, or several died on one item or while they started.
        """
        numbered = (_Task(index, item) for index, item in items)
        again: deque[_Task[T]] = deque()
        died = 0

        def take() -> _Task[T] | None:
            return again.popleft() if again else next(numbered, None)

        task = take()
        while task or any(call.task for call in self._calls.values()):
            if task and self._idle:
                self._give(self._idle.pop(), task)
                task = take()
                continue
            finished, lost = self._wait()
            if lost:
                again.append(lost)
                died += 1
                task = task or take()
            if finished:
                if task:  # the worker goes on while its result is used
                    self._give(self._idle.pop(), task)
                    task = take()
                ended, result = finished
                on_result(ended.index, result)
        if died:
            print(
                "1 worker died and was replaced." if died == 1 else f"{died} workers died and were replaced."
            )

    def end(self) -> None:
        """End all workers."""
        for worker in [*self._idle, *(call.worker for call in self._calls.values())]:
            ray.kill(worker)

    def _start(self) -> None:
        pool = self.pool
        actor = ray.remote(Worker).options(num_cpus=pool.cpus, num_gpus=pool.gpus or None)
        worker = actor.remote(self._sent, pool.device, pool.cpus, str(Path.cwd()))
        self._calls[worker.ready.remote()] = _Call(worker, None)

    def _give(self, worker: "ActorHandle", task: _Task[T]) -> None:
        task.attempts += 1
        self._calls[worker.answer.remote(task.item)] = _Call(worker, task)

    def _wait(self) -> tuple[tuple[_Task[T], R] | None, _Task[T] | None]:
        """Wait for the end of a call: the finished task with its result, and the task whose worker died."""
        reference = ray.wait(list(self._calls), num_returns=1)[0][0]
        worker, task = self._calls.pop(reference)
        try:
            result = ray.get(reference)
        except RayTaskError:  # an error of the code
            raise
        except RayError as error:
            ray.kill(worker)
            self._check_attempts(task, error)
            self._start()
            return None, task
        if isinstance(result, GeoClickError):
            raise result
        self._failed_starts = 0
        self._idle.append(worker)
        return (task, result) if task else None, None

    def _check_attempts(self, task: _Task[T] | None, error: RayError) -> None:
        """Raise GeoClickError if too many workers died on an item or while they started."""
        if task is None:
            self._failed_starts += 1
            if self._failed_starts > MAX_ATTEMPTS * self.pool.workers:
                raise GeoClickError(
                    f"Ray's workers die while they start ({first_line(error)}); rerun the command to continue."
                ) from error
        elif task.attempts >= MAX_ATTEMPTS:
            raise GeoClickError(
                f"{MAX_ATTEMPTS} workers died, one after another, on {self._setup.describe(task.item)}"
            ) from error


@contextmanager
def opened(setup: Setup[T, R], items: int, where: Resources) -> Iterator[Workers[T, R]]:
    """Start workers; they end with the block.

    Args:
        setup: prepares each worker.
        items: largest number of items; there are no more workers.
        where: the cluster and its workers.

    Raises:
        UsageError: as `plan`.
        GeoClickError: the cluster cannot be reached or started.
    """
    with _cluster(where.address):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        workers = Workers(setup, plan(nodes, max(1, items), workers=where.workers, device=where.device))
        try:
            yield workers
        finally:
            workers.end()


def run(
    setup: Setup[T, R], items: Mapping[int, T], on_result: Callable[[int, R], None], where: Resources
) -> None:
    """Start workers, work on all items and end the workers; arguments and errors as in `opened` and `Workers.run`."""
    with opened(setup, len(items), where) as workers:
        workers.run(items.items(), on_result)


def node() -> str:
    """The address of the node of this process, for messages."""
    address: str = ray.util.get_node_ip_address()
    return address


def check_folder(root: Path) -> None:
    """Raise GeoClickError if this node lacks the folder of a dataset."""
    if not root.is_dir():
        raise GeoClickError(
            f"Node {node()} has no folder {root}; give --root an absolute path that all nodes share."
        )


def check_equal(own: Mapping[str, Yaml], expected: Mapping[str, Yaml]) -> None:
    """Raise GeoClickError if the models of this node, as records describe them, are not those of the first worker."""
    for name, value in expected.items():
        if own.get(name) != value:
            raise GeoClickError(
                f"Node {node()} has another {name} than the first one, {own.get(name)!r} and not {value!r}; give all "
                "nodes the same models."
            )


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """A connection to Ray, unless there is one, without its log and its usage statistics."""
    if ray.is_initialized():
        yield
        return
    _check_head(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # At its default level it warns of every actor, bypassing Python's logging.
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
