"""What fuzzing guided by coverage found, and the fuzzing itself.

GEOCLICK_FUZZ_SECONDS sets the CPU time of each target of the slow test.
"""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from geoclick.errors import GeoClickError
from tests.hardening.fuzz_targets import TARGETS
from tests.hardening.json_changes import changed
from tests.paths import REPO

CHANGES = 150
"""Random changes of the seeds of a target; a fuzzer makes thousands a second."""


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_accepted(name, tmp_path):
    for seed in TARGETS[name].seeds():
        TARGETS[name].read(seed, tmp_path)


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.is_json])
def test_changed_seeds_are_read_or_refused(name, tmp_path):
    target, outcomes = TARGETS[name], set()
    seeds = [seed for seed in target.seeds() if changed(seed, 0) is not None]
    for number in range(CHANGES):
        try:
            target.read(changed(seeds[number % len(seeds)], number), tmp_path)
            outcomes.add("read")
        except GeoClickError:
            outcomes.add("refused")
    assert "read" in outcomes


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="needs atheris: pip install atheris")
@pytest.mark.parametrize("name", TARGETS)
def test_fuzzing_finds_no_fault(name):
    seconds = os.environ.get("GEOCLICK_FUZZ_SECONDS", "5")
    words = [sys.executable, "-m", "tests.hardening.coverage_fuzz", "--target", name, "--seconds", seconds]
    done = subprocess.run(words, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "0 kinds of faults" in done.stdout
