"""Claims: how the processes of a job divide its work, by locks on single bytes of one file.

The kernel releases a lock when its holder ends, however it ends. So no claim outlives its process, and another process
can take over the work of one that died. Byte 0 belongs to process 0, byte 1 + i to item i of the work.
"""

import fcntl
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from geoclick.errors import GeoClickError
from geoclick.jobs import processes

FIRST = 0
"""The byte that process 0 of a job holds while it works."""

_ATTEMPTS = 10
"""Attempts to lock FIRST: a process that tests whether it is held holds it for a moment."""


def acquire(claims: BinaryIO, byte: int) -> bool:
    """Lock a byte until `release` or until the file is closed; False if another process holds it."""
    try:
        fcntl.lockf(claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):
        return False
    return True


def acquire_all(claims: BinaryIO, items: Iterable[int], output: Path) -> None:
    """Claim items of the work for this process, which gives them to workers.

    Args:
        claims: of the job.
        items: numbers from 0.
        output: of the job, named in the error.

    Raises:
        GeoClickError: another process holds one of them.
    """
    if not all(acquire(claims, 1 + item) for item in items):
        raise GeoClickError(f"Another job is writing {output}; wait until it has ended, or stop it.")


def release(claims: BinaryIO, byte: int) -> None:
    """Unlock a byte."""
    fcntl.lockf(claims, fcntl.LOCK_UN, 1, byte)


def is_held(claims: BinaryIO, byte: int) -> bool:
    """Whether another process holds a byte."""
    try:
        fcntl.lockf(claims, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):
        return True
    release(claims, byte)
    return False


def wait_until_released(claims: BinaryIO, byte: int) -> None:
    """Wait, in the kernel, until the process that holds a byte releases it or ends."""
    fcntl.lockf(claims, fcntl.LOCK_SH, 1, byte)


def open_as_first(path: Path) -> BinaryIO | None:
    """Open the claims of a job as its process 0; None if another job holds them. Missing folders are created."""
    for _ in range(_ATTEMPTS):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("a+b")
        except FileNotFoundError:  # another job has just ended and removed the folder
            continue
        # A lock on a file that was removed meanwhile protects nothing.
        if acquire(file, FIRST) and _is_at(path, file):
            return file
        file.close()
        time.sleep(processes.POLL_SECONDS)
    return None


def open_as_other(path: Path) -> BinaryIO | None:
    """Open the claims of a job as one of its other processes; None unless its process 0 holds them."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return None
    if is_held(file, FIRST):
        return file
    file.close()
    return None


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
