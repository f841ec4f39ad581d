"""Work on all rows of a source, shared by the processors of the machine."""

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from geoclick.errors import GeoClickError
from geoclick.progress_bar import track

Item = TypeVar("Item")
Result = TypeVar("Result")

BLOCK = 1024
"""Rows that are read together."""
LONG = 100_000
"""Rows from which several processes share the pass, which begin to be worth their start, and its progress is shown."""
MOST_WORKERS = 16
"""Processes at most: more would wait for the one that collects the results."""


def blocks_of(work: Callable[[range], Result], count: int, title: str) -> Iterator[Result]:
    """What `work` makes of each block of the rows 0 to `count` - 1, in order.

    Args:
        work: takes the numbers of a block's rows; it may run in a forked process, which sends the result.
        count: number of rows.
        title: of the progress bar.

    Raises:
        GeoClickError: one of `work`.
    """
    blocks = [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    is_long = count >= LONG
    made = in_processes(work, blocks) if is_long else map(work, blocks)
    yield from track(made, title, len(blocks), shown=is_long)


def in_processes(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """What `work` makes of each item, in order, in forked processes, one for each processor; errors as in `work`.

    Without Linux the items are done in this process.
    """
    processors = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    workers = min(processors, MOST_WORKERS, len(items))
    loader = DataLoader(
        _Work(work, items),
        batch_size=None,
        num_workers=workers if workers > 1 else 0,
        # `work` need not be one that can be pickled.
        multiprocessing_context="fork" if workers > 1 else None,
        collate_fn=_as_it_is,
        worker_init_fn=_start_worker,
        # It draws a seed, which must not change the random numbers of the run.
        generator=torch.Generator(),
    )
    with _without_earlier_objects():
        for result in loader:
            if isinstance(result, GeoClickError):
                raise result
            yield result


class _Work(Dataset[Result | GeoClickError], Generic[Item, Result]):
    """The result of each item; an error of ours is returned, since a worker's errors are raised with a traceback."""

    def __init__(self, work: Callable[[Item], Result], items: Sequence[Item]) -> None:
        self.work, self.items = work, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Result | GeoClickError:
        try:
            return self.work(self.items[number])
        except GeoClickError as error:
            return error


def _as_it_is(result: Result) -> Result:
    return result


def _start_worker(_: int) -> None:
    # The threads of a tokenizer that has been used do not go on in a fork.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


@contextmanager
def _without_earlier_objects() -> Iterator[None]:
    """Garbage collection without the objects that exist now: to walk those of the libraries takes half of a pass."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
