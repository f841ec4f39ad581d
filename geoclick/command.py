"""Running a command: parse its options, print an error as one sentence, and return an exit code."""

import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Generic, TypeVar

from geoclick import library_messages
from geoclick.config import parse
from geoclick.errors import GeoClickError, single_line

T = TypeVar("T")


class Terminated(KeyboardInterrupt):
    """SIGTERM, such as that of a cluster whose time for the job is over."""


@dataclass(frozen=True)
class Command(Generic[T]):
    """A command; calling it with the arguments of the command line runs it and returns the exit code.

    Attributes:
        prog: the command as the user types it.
        options: dataclass of its options, made of `config.option` fields.
        run: executes the command with these options.
        description: one or two sentences for `--help`.
        example: a valid command line, for `--help`.
        around: wraps the execution, to handle the errors of several processes; None for one process.
    """

    prog: str
    options: type[T]
    run: Callable[[T], None]
    description: str
    example: str
    around: Callable[[Callable[[], None]], None] | None = None

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run with `argv`, by default the arguments of the process; 0 success, 1 failure, 2 wrong usage."""

        def body() -> None:
            texts = {"prog": self.prog, "description": self.description, "example": self.example}
            self.run(parse(self.options, argv, **texts))

        around = self.around
        return exit_code(body if around is None else lambda: around(body), argv)


def print_next(*words: object) -> None:
    """Print the command that usually follows, as the last line of a command; placeholders are in capitals."""
    print(f"next: geoclick {shlex.join(map(str, words))}")


def exit_code(body: Callable[[], None], argv: Sequence[str] | None = None) -> int:
    """Run the body of a command and return its exit code; errors are printed (with `--debug`: and their tracebacks)."""
    library_messages.drop()
    debug = "--debug" in (sys.argv if argv is None else argv)
    try:
        with termination_raised():
            body()
    except GeoClickError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {single_line(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        print(f"error: {interruption(error)}; rerun the same command to continue.", file=sys.stderr)
        return 1
    except RuntimeError as error:
        reason = readable(error)
        if not reason:
            raise
        if debug:
            traceback.print_exc()
        print(f"error: {single_line(reason)}", file=sys.stderr)
        return 1
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = f": {error.filename}" if error.filename else ""
        reason = single_line(f"{error.strerror or error}{where}")
        print(f"error: {reason}; free space or fix the path and rerun the command.", file=sys.stderr)
        return 1
    return 0


def readable(error: RuntimeError) -> str:
    """The sentence for a RuntimeError that the user can fix; empty for any other."""
    if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, which is not imported here
        return "The memory of the GPU is too small; use a smaller model or batch, or --device cpu."
    if "Symlink loop" in str(error):  # of Path.resolve
        return f"{error}; replace the link."
    return ""


def interruption(error: KeyboardInterrupt) -> str:
    """What ended a command, as the beginning of a sentence."""
    return "Terminated" if isinstance(error, Terminated) else "Interrupted"


@contextmanager
def termination_raised() -> Iterator[None]:
    """Raise Terminated in a block where SIGTERM would end the process at once; several processes have a launcher."""
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1
    is_main = threading.current_thread() is threading.main_thread()
    if not (alone and is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL):
        yield
        return
    owner = os.getpid()

    def end(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == owner:
            raise Terminated
        # A worker that was forked in the block.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
