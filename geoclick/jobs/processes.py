"""The processes of a job: how many, which one this is, its device, and waiting for process 0.

`accelerate launch` and `torchrun` start them and set RANK, WORLD_SIZE and LOCAL_RANK. The processes share no memory and
send no messages; they communicate through files.
"""

import os
import time
from collections.abc import Callable

from geoclick.errors import GeoClickError

FIRST_TIMEOUT = 600.0
"""Seconds that the other processes wait for process 0; all of them read the same samples first."""
POLL_SECONDS = 0.2
"""Seconds between two looks at the files of other processes."""


def count() -> int:
    """Number of processes of the job."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", 0)) if count() > 1 else 0


def is_first() -> bool:
    """Whether this is process 0, which opens and finishes the job, shows its progress and prints its messages."""
    return rank() == 0


def device(name: str) -> str:
    """The device for `--device`; with several processes "auto" assigns the GPUs in turn."""
    if name != "auto" or count() == 1:
        return name
    import torch

    gpus = torch.cuda.device_count()
    return f"cuda:{int(os.environ.get('LOCAL_RANK', rank())) % gpus}" if gpus else "cpu"


def print_loading(what: str) -> None:
    """Print a first line before libraries and models are loaded, which takes seconds; only process 0 prints it."""
    if is_first():
        print(f"loading {what}", flush=True)


def wait_for_first(is_done: Callable[[], bool], what: str) -> None:
    """Wait until process 0 has done something.

    Args:
        is_done: whether it is done.
        what: a past participle with its object for the error, such as "generated the scenes".

    Raises:
        GeoClickError: it is not done after FIRST_TIMEOUT seconds.
    """
    deadline = time.monotonic() + FIRST_TIMEOUT
    while not is_done():
        if time.monotonic() > deadline:
            raise GeoClickError(
                f"Process 0 has not {what} within {FIRST_TIMEOUT:g} seconds; fix the error that it reports and rerun "
                "the command."
            )
        time.sleep(POLL_SECONDS)
