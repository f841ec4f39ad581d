"""Worker processes that share the items of a job, end with it, and report a single error."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import TypeVar

from geoclick.errors import GeoClickError
from geoclick.progress_bar import track

T = TypeVar("T")


def for_each(work: Callable[[T], None], items: Sequence[T], workers: int, description: str) -> None:
    """Do the work on every item, in this process or in several but no more than items, with a progress bar.

    Raises:
        GeoClickError: a process died.
        Exception: raised by the work; items in progress are finished, the others are not started.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        for item in track(items, description):
            work(item)
        return
    with ProcessPoolExecutor(workers, initializer=_start_worker) as pool:
        try:
            # The processes are forked before the thread that draws the bar starts.
            futures = [pool.submit(work, item) for item in items]
            for done in track(as_completed(futures), description, total=len(futures)):
                done.result()
        except BrokenProcessPool as error:
            raise GeoClickError(
                "A worker process died, most likely for lack of memory; rerun the command with fewer --workers."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """A worker leaves interruptions to its parent, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
