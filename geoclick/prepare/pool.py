"""Processes that share the images of a job, end with it, and leave no sentence but one."""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

from rich.progress import track

from geoclick.errors import GeoClickError

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds that the processes of a job that was killed have for ending."""


def each(work: Callable[[T], None], items: Sequence[T], workers: int, told: str) -> None:
    """Do the work on every item, in this process or in several, behind a progress bar that says `told`.

    Raises:
        GeoClickError: a process died.
        Exception: what the work raises; items that were begun are finished, the others are not begun.
    """
    if workers == 1:
        for item in track(items, told):
            work(item)
        return
    with ProcessPoolExecutor(workers, initializer=_begin) as pool:
        try:
            # The processes are there before the thread that draws the bar.
            futures = [pool.submit(work, item) for item in items]
            for done in track(as_completed(futures), told, total=len(futures)):
                done.result()
        except BrokenProcessPool as error:
            raise GeoClickError(
                "A worker process died, most likely for want of memory; start the same command again with fewer "
                "--workers."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """A worker leaves an interruption to its parent, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    wait([parent_process().sentinel])
    os._exit(1)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock on a file while the block runs; raises GeoClickError while another job, or what is left of it, does.

    Workers that are forked inside the block share the lock, and the kernel gives it back when all have ended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + PATIENCE
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise GeoClickError(
                        f"Another job is writing {path.parents[1]}; wait until it has ended, or stop it."
                    ) from None
                time.sleep(0.1)
        yield
