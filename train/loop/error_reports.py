"""One error message from the processes of a run, which its launcher ends when one of them fails."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from geoclick.errors import GeoClickError
from geoclick.jobs import processes
from geoclick.jobs.failures import ERROR_DELAY

MARK = ".geoclick.error"
"""Name of the empty file that the process creates in the output folder that reports an error of the training."""

LOST = ("Connection closed by peer", "Connection reset by peer", "NCCL", "Broken pipe")
"""Words of the errors of collective operations when another process has ended."""


class ReportedError(GeoClickError):
    """An error of the training, which this process reports for all."""


def reported_by_first(body: Callable[[], None]) -> None:
    """Run a command; an error before the training, which all processes meet, is reported by process 0."""
    try:
        body()
    except ReportedError:
        raise
    except GeoClickError:
        if not processes.is_first():
            time.sleep(ERROR_DELAY)
        raise


@contextmanager
def reported_once(output: Path, wait_for_everyone: Callable[[], None]) -> Iterator[None]:
    """Report an error of the training from the process that meets it first; the others end silently.

    Args:
        output: the run's folder.
        wait_for_everyone: returns when all processes have called it.

    Raises:
        ReportedError: a GeoClickError inside the block, or the end of another process.
    """
    if processes.count() == 1:
        yield
        return
    mark = output / MARK
    if processes.is_first():
        mark.unlink(missing_ok=True)
    wait_for_everyone()
    try:
        yield
    except GeoClickError as error:
        if not _is_first_to_report(mark):
            sys.exit(1)
        raise ReportedError(str(error)) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in LOST):
            raise
        if not _is_first_to_report(mark):
            sys.exit(1)
        raise ReportedError(
            "The training ended because one of its processes died or was stopped; rerun the command with --resume to "
            "continue from the last checkpoint."
        ) from error


def _is_first_to_report(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # a full disk
        return True
    return True
