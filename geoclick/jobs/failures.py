"""One error message from several processes: all of them end when one fails or dies, and one of them says why."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from geoclick.errors import GeoClickError, UsageError
from geoclick.jobs import processes

ERROR_DELAY = 30.0
"""Seconds that the other processes wait before an error that process 0 reports too; its launcher ends them first."""

MARK = "error-reported"
"""Name of the empty file that the process creates that reports the error."""


class Ended(KeyboardInterrupt):
    """Another process of the job died; no Exception, so that no handler of broken input catches it."""


def reported_by_first(body: Callable[[], None]) -> None:
    """Run a command; an error in its options, which all processes meet, is reported by process 0."""
    try:
        body()
    except UsageError:
        if not processes.is_first():
            time.sleep(ERROR_DELAY)
        raise


@contextmanager
def single_error(folder: Path, output: Path) -> Iterator[None]:
    """End all processes with one error message when one of them fails or dies.

    A launcher that sees one process die sends SIGTERM to the others. If the one that died has reported an error, the
    others end silently; otherwise the first one that receives the signal reports it.

    Args:
        folder: existing folder for the mark that an error was reported.
        output: output of the job, named in the message.

    Raises:
        GeoClickError: another process died.
    """
    mark = folder / MARK
    if processes.is_first():
        mark.unlink(missing_ok=True)

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Ended

    several = processes.count() > 1
    previous = signal.signal(signal.SIGTERM, end) if several else None
    try:
        yield
    except Exception:
        _is_first_to_report(mark)
        raise
    except KeyboardInterrupt as interrupt:
        if not _is_first_to_report(mark):
            sys.exit(1)
        if not isinstance(interrupt, Ended):
            raise
        raise GeoClickError(
            f"The job ended because one of its {processes.count()} processes died or was stopped; rerun the command "
            f"to continue from what {output} holds."
        ) from None
    finally:
        if several:
            signal.signal(signal.SIGTERM, previous)


def _is_first_to_report(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    except FileNotFoundError:  # removed with its folder: the output is complete
        return True
    return True
