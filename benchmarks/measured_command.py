"""Runs a command of geoclick in a process of its own and measures its time and memory."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """What a process used.

    Attributes:
        seconds: wall-clock time.
        cpu_seconds: CPU time of the process, which depends less on the load of the machine.
        peak_mb: peak resident memory in MB.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float


def measure(module: str, *arguments: object) -> Usage:
    """Run `python -m module arguments`; raises SystemExit if it fails."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", module, *map(str, arguments)])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{module} failed; see its error above.")
    seconds = time.perf_counter() - start
    return Usage(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
