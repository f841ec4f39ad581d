"""The progress of long work on the error stream: a bar on a terminal, else a line every LINE_SECONDS."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from geoclick.errors import single_line

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

T = TypeVar("T")

LINE_SECONDS = 30.0
"""Seconds between two lines without a terminal."""


class Progress:
    """The progress of one task; it is shown by `progress`.

    Attributes:
        description: what is done.
        total: number of steps; None if unknown.
        done: number of finished steps.
        note: a figure that is shown with the steps, such as the loss.
    """

    def __init__(self, description: str, total: int | None, done: int = 0) -> None:
        self.description, self.total, self.done = description, total, done
        self.note = ""
        self._started = self._shown = (time.monotonic(), done)

    def advance(self, steps: int = 1) -> None:
        """Count finished steps."""
        self.done += steps
        self._show()

    def print(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        print(single_line(line), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Show the end of work that took long."""
        if self._shown is not self._started:
            self.print(f"{self._state()}, {clock(time.monotonic() - self._started[0])} in total")

    def _show(self) -> None:
        now = time.monotonic()
        then, done = self._shown
        if now - then < LINE_SECONDS:
            return
        self._shown = now, self.done
        self.print(self._state() + speed(self.done - done, now - then, self._left()))

    def _left(self) -> int | None:
        return None if self.total is None else self.total - self.done

    def _state(self) -> str:
        steps = f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"
        return ", ".join(filter(None, (f"{self.description}: {steps}", self.note)))


class _Bar(Progress):
    """The same on a terminal."""

    def __init__(self, description: str, total: int | None, done: int, bar: "RichProgress") -> None:
        super().__init__(description, total, done)
        self.bar = bar
        self.task = bar.add_task(description, total=total, completed=done)

    def print(self, line: str) -> None:
        self.bar.console.print(single_line(line), markup=False, highlight=False)

    def close(self) -> None:
        pass

    def _show(self) -> None:
        note = f" ({self.note})" if self.note else ""
        self.bar.update(self.task, completed=self.done, description=f"{self.description}{note}")


class _Hidden(Progress):
    """Nothing is shown, for all processes but the first."""

    def print(self, line: str) -> None:
        pass

    def _show(self) -> None:
        pass


@contextmanager
def progress(
    description: str, total: int | None = None, *, done: int = 0, shown: bool = True, transient: bool = False
) -> Iterator[Progress]:
    """Show the progress of a block.

    Args:
        description: what is done.
        total: number of steps; None if unknown.
        done: number of steps that an earlier start has finished.
        shown: False shows nothing.
        transient: whether the bar is removed at the end.
    """
    if not shown:
        yield _Hidden(description, total, done)
    elif not sys.stderr.isatty():
        lines = Progress(description, total, done)
        yield lines
        lines.close()
    else:
        with _rich(total, transient) as bar:
            yield _Bar(description, total, done, bar)


def _rich(total: int | None, transient: bool) -> "RichProgress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    text = TextColumn("{task.description}", markup=False)
    columns: tuple[ProgressColumn, ...] = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    if total is None:
        columns = (SpinnerColumn(), text, TextColumn("{task.completed:,.0f}"))
    return RichProgress(*columns, console=Console(stderr=True), transient=transient)


def track(
    items: Iterable[T],
    description: str,
    total: int | None = None,
    *,
    shown: bool = True,
    transient: bool = False,
) -> Iterator[T]:
    """The same items, with their progress; `total` is needed if they have no length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(description, total, shown=shown, transient=transient) as shown_progress:
        for item in items:
            yield item
            shown_progress.advance()


def speed(steps: int, seconds: float, left: int | None) -> str:
    """The rate of some steps and the time for those that are left, for a line of progress."""
    if steps <= 0:
        return ""
    rate = steps / seconds
    text = f", {rate:.1f}/s" if rate >= 1 else f", {1 / rate:.1f} s each"
    return text if left is None else f"{text}, {clock(left / rate)} left"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
