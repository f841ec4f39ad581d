"""Running a command: parse its options, print an error as one sentence, and return an exit code."""

import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from geoclick import library_messages
from geoclick.config import parse
from geoclick.errors import GeoClickError, single_line

T = TypeVar("T")


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
        body()
    except GeoClickError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {single_line(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: Interrupted; rerun the same command to continue.", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # PyTorch's, which is not imported here
            raise
        if debug:
            traceback.print_exc()
        print(
            "error: The memory of the GPU is too small; use a smaller model or batch, or --device cpu.",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = f": {error.filename}" if error.filename else ""
        reason = single_line(f"{error.strerror or error}{where}")
        print(f"error: {reason}; free space or fix the path and rerun the command.", file=sys.stderr)
        return 1
    return 0
