"""A `geoclick evaluate` that is killed again and again."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from geoclick.inference.evaluation import run_folder
from tests.paths import REPO


def kill_ten_times(words: Sequence[object], output: Path) -> list[int]:
    """Start the command ten times and kill it after its next answers; returns the number of answers after each."""
    rng, left = random.Random(0), []
    command = [sys.executable, "-m", "geoclick.cli", "evaluate", *map(str, words), "--output", str(output)]
    for _ in range(10):
        process = subprocess.Popen(command, cwd=REPO, start_new_session=True, stderr=subprocess.DEVNULL)
        before = run_folder.count(output)
        while run_folder.count(output) == before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.8))
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        left.append(run_folder.count(output))
    return left
