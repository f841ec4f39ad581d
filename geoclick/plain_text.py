"""What texts from outside may hold: queries, ids, names of files, values of options."""

from pathlib import Path

from geoclick.errors import GeoClickError

LONGEST = 10_000
"""Largest number of characters of a query, an id or the name of a class."""

OUTSIDE = r"^[/\\]|^[A-Za-z]:[/\\]|(^|[/\\])\.\.([/\\]|$)"
"""Paths that are absolute or lead out of a folder."""

ALLOWED = "\t\n\r"
"""Control characters of several lines."""


def fault(text: str, longest: int = LONGEST) -> str:
    """Why a text cannot be used, as what follows its name in a sentence; empty if it can.

    Terminals execute some control characters, no file name holds NUL, and half a surrogate pair has no UTF-8: Python
    reads bytes that are no UTF-8 as such halves.
    """
    if len(text) > longest:
        return f"has {len(text):,} characters, more than {longest:,}"
    if any((c < " " and c not in ALLOWED) or "\x7f" <= c <= "\x9f" for c in text):
        return "holds a control character"
    if any("\ud800" <= c <= "\udfff" for c in text):
        return "is no text in UTF-8"
    return ""


def query_fault(text: str) -> str:
    """As `fault`, of a query or an id, which must not be blank."""
    return fault(text) if text.strip() else "is empty"


def check_query(text: str, what: str) -> None:
    """Raise GeoClickError for a text that is no query or id; `what` names it."""
    if reason := query_fault(text):
        raise GeoClickError(f"{what} {reason}; fix it.")


def check_name(path: Path) -> None:
    """Raise GeoClickError for the path of an input that cannot be printed or written to a record."""
    if reason := fault(str(path)):
        raise GeoClickError(f"The name of {str(path)[:200]!a} {reason}; rename the file.")
