"""Errors that the user can fix; the message is one sentence that names the fix."""

import re


class GeoClickError(Exception):
    """A failure that the user can fix. Exit code 1."""

    exit_code = 1


class UsageError(GeoClickError):
    """A wrong flag, key or combination on the command line or in a config file. Exit code 2."""

    exit_code = 2


def first_line(error: BaseException) -> str:
    """The first line of an error's message without the final period, for quoting it in another message."""
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def single_line(text: str) -> str:
    """A text as one printable line: what it quotes from a file can neither start a line nor control the terminal."""
    spaced = re.sub(r"[^\S ]+", " ", text)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in spaced).strip()
