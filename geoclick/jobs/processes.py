"""The processes of one job: which of them this one is, what it may take, and which of them speaks.

`accelerate launch` and `torchrun` start them, and tell each its place in the environment: RANK, WORLD_SIZE, LOCAL_RANK.

They share no memory and send no messages: all that they agree on is files. A claim is a lock on one byte of a file
in the output. The kernel gives it back when its holder ends, by whatever death, so no claim outlives its process, and
what a dead process had claimed another one takes.
"""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import BinaryIO, NoReturn

from geoclick.errors import GeoClickError, UsageError

PATIENCE = 600.0
"""Seconds that the others give process 0 to open the job; it has read the same samples as they when it does."""
HEADSTART = 30.0
"""Seconds that process 0 has for telling an error that all of them meet; it ends then, and its launcher ends all."""
GLANCE = 0.2
"""Seconds between two looks at the files of the others."""


class Ended(KeyboardInterrupt):
    """Another process of the job died; no Exception, so that no handler of broken input takes it for one."""


def count() -> int:
    """The processes of the job."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", 0)) if count() > 1 else 0


def is_first() -> bool:
    """Whether this is process 0, which opens and finishes the job, shows its progress and speaks."""
    return rank() == 0


def device(name: str) -> str:
    """The device that `--device` names; for several processes "auto" is a GPU each, in turn where they are fewer."""
    if name != "auto" or count() == 1:
        return name
    import torch

    gpus = torch.cuda.device_count()
    return f"cuda:{int(os.environ.get('LOCAL_RANK', rank())) % gpus}" if gpus else "cpu"


def wait_for(found: Callable[[], bool], missing: str) -> None:
    """Wait until something is found; after PATIENCE seconds raise GeoClickError, saying what process 0 has not done."""
    deadline = time.monotonic() + PATIENCE
    while not found():
        if time.monotonic() > deadline:
            raise GeoClickError(
                f"Process 0 has not {missing} within {PATIENCE:g} seconds; see what it says, and start the same "
                "command again."
            )
        time.sleep(GLANCE)


def take(claims: BinaryIO, byte: int) -> bool:
    """Claim a byte for this process until it is given back or the file is closed; False where another one has it."""
    try:
        fcntl.lockf(claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):
        return False
    return True


def give_back(claims: BinaryIO, byte: int) -> None:
    """Let the others claim a byte."""
    fcntl.lockf(claims, fcntl.LOCK_UN, 1, byte)


def is_taken(claims: BinaryIO, byte: int) -> bool:
    """Whether another process has claimed a byte."""
    try:
        fcntl.lockf(claims, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, byte)
    except (BlockingIOError, PermissionError):
        return True
    give_back(claims, byte)
    return False


LEAD = 0
"""The byte that process 0 of a job holds while it works."""


def lead(claims: Path) -> BinaryIO | None:
    """Open the claims of a job as its process 0; None when another job's process 0 holds them."""
    file = claims.open("a+b")
    for _ in range(10):  # another process that looks whether it is taken holds it for a moment
        if take(file, LEAD):
            return file
        time.sleep(GLANCE)
    file.close()
    return None


def follow(claims: Path) -> BinaryIO | None:
    """Open the claims of a job as one of its other processes; None while no process 0 holds them."""
    try:
        file = claims.open("r+b")
    except FileNotFoundError:
        return None
    if is_taken(file, LEAD):
        return file
    file.close()
    return None


def wait_for_holder(claims: BinaryIO, byte: int) -> None:
    """Wait, in the kernel, until the process that has claimed a byte gives it back or dies."""
    fcntl.lockf(claims, fcntl.LOCK_SH, 1, byte)


def told_by_first(body: Callable[[], None]) -> None:
    """Run a command; a mistake in its options, which all processes meet, is left to process 0 to tell."""
    try:
        body()
    except UsageError:
        if not is_first():
            time.sleep(HEADSTART)
        raise


@contextmanager
def one_voice(folder: Path, output: Path) -> Iterator[None]:
    """While several processes work: when one fails or dies, one sentence is said, and all end.

    A launcher that sees one process die sends SIGTERM to the others. The first of them that gets it says so; the
    others end in silence, as they do when the one that died has told its error.

    Args:
        folder: an existing one, for the mark that the sentence was said.
        output: the store, to be named in it.

    Raises:
        GeoClickError: another process died.
    """
    said = folder / "said"
    if is_first():
        said.unlink(missing_ok=True)

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Ended

    before = signal.signal(signal.SIGTERM, end) if count() > 1 else None
    try:
        yield
    except Exception:
        _is_first_to_say(said)
        raise
    except KeyboardInterrupt as interrupt:
        if not _is_first_to_say(said):
            sys.exit(1)
        if not isinstance(interrupt, Ended):
            raise
        raise GeoClickError(
            f"The job was ended because one of its {count()} processes died or it was told to stop; what is whole "
            f"in {output} is kept: start the same command again, it goes on from here."
        ) from None
    finally:
        if count() > 1:
            signal.signal(signal.SIGTERM, before)


def _is_first_to_say(said: Path) -> bool:
    try:
        said.touch(exist_ok=False)
    except FileExistsError:
        return False
    except FileNotFoundError:  # removed with its folder: the store is whole
        return True
    return True
