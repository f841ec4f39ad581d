"""Fuzzing guided by coverage: atheris changes inputs so that they reach further lines and branches.

pip install atheris
python -m tests.hardening.coverage_fuzz --target codec --seconds 60

Prints the number of inputs, and each kind of fault with the first input that shows it; the exit code is 1 if there are
faults.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["geoclick"]):
    # What is imported later has no counters.
    from geoclick.datasets import readers, windows  # noqa: F401
    from geoclick.errors import GeoClickError
    from geoclick.geo import reading, vectors  # noqa: F401
    from geoclick.inference.evaluation import results  # noqa: F401
    from geoclick.inference.reports import evaluation_report  # noqa: F401
    from tests.hardening import fuzz_targets

from tests.hardening.json_changes import changed

MEGABYTES = 4000
"""Memory that libFuzzer allows; the libraries alone take some hundred."""

SLOW = 5.0
"""Seconds of CPU time of an input of at most 4 KB, from which it is a fault."""


class Fuzzer:
    """Reads inputs until a number of seconds of CPU time is over, then ends the process.

    Args:
        target: of `fuzz_targets.TARGETS`.
        seconds: of CPU time.
        folder: an empty folder for the target.
    """

    def __init__(self, target, seconds, folder):
        self.target, self.seconds, self.folder = target, seconds, folder
        self.count, self.refused, self.slowest, self.faults = 0, 0, 0.0, {}
        self.start = time.process_time()

    def __call__(self, data):
        """Read one input."""
        data, start = data.ljust(2, b"\0"), time.process_time()
        try:
            self.target.read(data, self.folder)
        except GeoClickError:
            self.refused += 1
        except Exception as error:  # any other exception is what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self.faults.setdefault((type(error).__name__, f"{frame.filename}:{frame.lineno}"), (error, data))
        self.count += 1
        self.slowest = max(self.slowest, took := time.process_time() - start)
        if took > SLOW:
            self.faults.setdefault(("slow", ""), (f"{took:.1f} s", data))
        if time.process_time() - self.start > self.seconds:
            self.end()

    def end(self):
        """Print what was found, remove the folder, and end the process: libFuzzer does not return."""
        seconds = time.process_time() - self.start
        for (kind, place), (error, data) in self.faults.items():
            print(f"{kind} {place}: {str(error)[:300]!r}\n  {data[:3000]!r}")
        print(
            f"{self.count:,} inputs in {seconds:.0f} s of CPU, {self.refused:,} refused, "
            f"slowest {self.slowest:.2f} s, {len(self.faults)} kinds of faults"
        )
        sys.stdout.flush()
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        os._exit(bool(self.faults))


def mutated(data, most, seed):
    """Another input: changed as JSON, or as libFuzzer changes bytes."""
    found = changed(data, seed) if seed % 4 else None
    return found if found is not None and len(found) <= most else atheris.Mutate(data, most)


def main():
    """Fuzz one target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=fuzz_targets.TARGETS, required=True)
    parser.add_argument("--seconds", type=float, default=60, help="CPU time")
    parser.add_argument("--seed", type=int, default=1, help="1 or more")
    options = parser.parse_args()
    target = fuzz_targets.TARGETS[options.target]
    # In memory, if possible: a target writes a file a thousand times a second.
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    corpus, own = Path(folder) / "corpus", Path(folder) / "own"
    corpus.mkdir()
    own.mkdir()
    for number, seed in enumerate(target.seeds()):
        (corpus / str(number)).write_bytes(seed)
    words = [f"-seed={options.seed}", f"-rss_limit_mb={MEGABYTES}", "-timeout=1200", "-max_len=4096"]
    words += ["-verbosity=0", f"-artifact_prefix={folder}/"]
    mutator = {"custom_mutator": mutated} if target.is_json else {}
    atheris.Setup([sys.argv[0], *words, str(corpus)], Fuzzer(target, options.seconds, own), **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
