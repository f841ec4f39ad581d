"""The process that runs the steps of `geoclick demo`: each in a copy of itself, in which the libraries are imported.

The steps of the demo are commands, and importing PyTorch, transformers and TRL again for each takes a fifth of the
demo's time. A copy is made by fork, before any library has started a thread or drawn a number, so that a step gives
the results of a process of its own. Lines of JSON on the standard input are the arguments of commands; the exit code
of each is written as a line to the file descriptor in the last argument.
"""

import importlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from geoclick import library_messages
from geoclick.vlms import bitsandbytes_import

LIBRARIES = (
    *("torch", "scipy.ndimage", "pandas", "peft", "transformers.trainer", "trl.trainer.sft_trainer"),
    *(f"transformers.models.qwen3_vl.{part}_qwen3_vl" for part in ("modeling", "processing")),
)
"""What the steps import, of other packages."""


@dataclass(frozen=True)
class StepRunner:
    """Runs commands in a process that has imported the libraries; it is made by `step_runner`."""

    process: "subprocess.Popen[str]"
    codes: IO[str]

    def run(self, words: Sequence[str]) -> int:
        """Run `geoclick WORDS` and return its exit code."""
        if self.process.stdin is None or self.process.poll() is not None:
            return self.process.wait() or 1
        print(json.dumps([*words]), file=self.process.stdin, flush=True)
        code = self.codes.readline()
        return int(code) if code else self.process.wait() or 1


@contextmanager
def step_runner() -> Iterator[StepRunner]:
    """A runner for a block; its process ends with the block."""
    reader, writer = os.pipe()
    with open(reader, encoding="ascii") as codes:  # noqa: PTH123 (a descriptor)
        try:
            # -P: a train.py or datasets.py in the working folder must not be imported in place of a package.
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "geoclick.demo_steps", str(writer)],
                stdin=subprocess.PIPE,
                text=True,
                pass_fds=(writer,),
            )
        finally:
            os.close(writer)
        with process:
            yield StepRunner(process, codes)


def import_libraries() -> None:
    """Import what the steps need; a library that is missing or broken is reported by the step that needs it."""
    library_messages.drop()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    bitsandbytes_import.leave_out("embedded")
    with warnings.catch_warnings():
        # Deprecations inside the libraries, which users cannot fix.
        warnings.simplefilter("ignore", FutureWarning)
        for name in LIBRARIES:
            try:
                importlib.import_module(name)
            except Exception:
                return


def serve(codes: int) -> int:
    """Run the commands of the standard input, each in a copy of this process; returns an exit code."""
    from geoclick import cli

    import_libraries()
    # Not `for line in sys.stdin`: a copy must not inherit lines that were read ahead.
    while line := os.read(0, 1 << 16).decode():
        words = json.loads(line)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.close(codes)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            return cli.main(words)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        os.write(codes, f"{code}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(serve(int(sys.argv[1])))
