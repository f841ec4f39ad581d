"""Patterns in an adapter_config.json, matched in bounded time.

PEFT compiles them with `re`, where a short pattern can match one name for years. Patterns of target modules are
matched here, with a time limit, and PEFT is given the names instead; every other pattern must be a plain name.
"""

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import regex

from geoclick.errors import GeoClickError
from geoclick.yaml_file import quoted

if TYPE_CHECKING:
    from peft import LoraConfig

SECONDS = 5.0
"""Time for one pattern and one model; ordinary patterns take milliseconds."""

LONGEST = 4000
"""Characters of a pattern at most."""

FULL_MATCH = ("target_modules", "exclude_modules")
"""Fields that are a pattern if they are a text; lists hold names."""

PARTS_OF_PATTERNS = ("layers_pattern", "modules_to_save", "rank_pattern", "alpha_pattern")
"""Fields whose texts PEFT inserts into patterns of its own."""

_PLAIN = re.compile(r"\^?(?:[\w-]|\\?\.)+\$?", re.ASCII)
_SHORTHAND = "all-linear"


def check(config: "LoraConfig", names: Iterable[str], folder: Path) -> None:
    """Refuse patterns that PEFT could not match against names of modules in bounded time.

    Args:
        config: the adapter's.
        names: of the base's modules, as far as they are known.
        folder: the adapter's, named in errors.

    Raises:
        GeoClickError: a pattern takes too long, is invalid or too long, or is not a plain name where it must be.
    """
    for field in PARTS_OF_PATTERNS:
        for text in _texts(getattr(config, field, None)):
            if len(text) > LONGEST or not _PLAIN.fullmatch(text):
                raise _refusal(folder, field, text, "is not a name of modules")
    names = list(names)
    for field in FULL_MATCH:
        if pattern := _pattern(config, field):
            _matching(pattern, names, field, folder)


@contextmanager
def names_for_patterns(config: "LoraConfig", names: Iterable[str], folder: Path) -> Iterator[None]:
    """For a block, the config has the names that its patterns match instead of these; arguments as in `check`."""
    names = list(names)
    check(config, (), folder)
    patterns = {field: _pattern(config, field) for field in FULL_MATCH}
    try:
        for field, pattern in patterns.items():
            if pattern:
                matching = _matching(pattern, names, field, folder)
                # No name at all is a pattern that matches nothing, and not an empty one, which PEFT ignores.
                setattr(config, field, "|".join(map(re.escape, matching)) or "(?!)")
        yield
    finally:
        for field, pattern in patterns.items():
            if pattern:
                setattr(config, field, pattern)


def _pattern(config: "LoraConfig", field: str) -> str:
    value = getattr(config, field, None)
    return value if isinstance(value, str) and value.lower() != _SHORTHAND else ""


def _texts(value: str | Iterable[str] | None) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(item) for item in value] if isinstance(value, Iterable) else []


def _matching(pattern: str, names: list[str], field: str, folder: Path) -> list[str]:
    """The names that a pattern matches in full."""
    if len(pattern) > LONGEST:
        raise _refusal(folder, field, pattern, f"is longer than {LONGEST} characters")
    try:
        compiled, results, end = regex.compile(pattern), list[str](), time.monotonic() + SECONDS
        for name in names:
            if compiled.fullmatch(name, timeout=max(1e-3, end - time.monotonic())):
                results.append(name)
            if time.monotonic() > end:
                raise TimeoutError
    except TimeoutError:
        raise _refusal(folder, field, pattern, "takes too long to match") from None
    except (regex.error, OverflowError, RecursionError, MemoryError) as error:
        raise _refusal(folder, field, pattern, "is no valid regular expression") from error
    return results


def _refusal(folder: Path, field: str, text: str, fault: str) -> GeoClickError:
    return GeoClickError(
        f"Adapter {folder} has a pattern in {field} of its adapter_config.json that {fault} ({quoted(text)}); "
        "replace it by a list of module names, or train the adapter again."
    )
