"""The images of `geoclick predict`: files, folders, globs and lists, each with its texts."""

import glob
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from geoclick import files, plain_text
from geoclick.errors import GeoClickError, UsageError
from geoclick.images import SUFFIXES

WILD = "*?["
"""Characters of a glob."""


class Input(NamedTuple):
    """An image with what to segment in it."""

    path: Path
    texts: tuple[str, ...]


class Inputs(NamedTuple):
    """All images of a command.

    Attributes:
        images: each path once, in the order of the command line.
        missing: paths that do not exist.
        notes: lines for the user about what is left out.
    """

    images: list[Input]
    missing: list[Path]
    notes: list[str]


def expand(words: Sequence[str], listed: str | None, texts: Sequence[str]) -> Inputs:
    """The images that the command line and a list name.

    Args:
        words: files, folders (the images directly in them) and globs (`**` matches folders of any depth).
        listed: a list, see `read_list`; None for none.
        texts: what to segment in each image whose line of the list has no query.

    Raises:
        GeoClickError: a folder or glob has no image, or the list cannot be read.
        UsageError: an image has no text.
    """
    notes: list[str] = []
    entries = [(path, "") for word in words for path in _paths_of(word, notes)]
    if listed is not None:
        entries += read_list(Path(listed))
    asked: dict[Path, dict[str, None]] = {}
    repeated = 0
    for path, query in entries:
        plain_text.check_name(path)
        own = asked.setdefault(path, {})
        given = [query] if query else texts
        if not given:
            raise UsageError(
                f"{path} has no query; give --text, or a query in each line of --from {listed or 'FILE.jsonl'}."
            )
        repeated += all(text in own for text in given)
        own.update(dict.fromkeys(given))
    if repeated:
        notes.append(f"{repeated} inputs occur more than once with the same query and are answered once.")
    images = [Input(path, tuple(own)) for path, own in asked.items()]
    return Inputs(images, [path for path in asked if not path.is_file()], notes)


def _paths_of(word: str, notes: list[str]) -> list[Path]:
    """The files that a word of the command line names."""
    path = Path(word)
    if path.is_dir():
        inside = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
        found = [one for one in inside if one.suffix.lower() in SUFFIXES]
        if not found:
            raise GeoClickError(
                f"{path} holds no images directly in it; give another folder, or a glob such as '{path}/**/*.tif'."
            )
        if len(found) < len(inside):
            notes.append(f"{path}: {len(found)} images; {len(inside) - len(found)} other files are left out.")
        return found
    if path.exists() or not any(character in word for character in WILD):
        return [path]
    # Unlike Path.glob it takes absolute patterns.
    matches = glob.iglob(word, recursive=True)  # noqa: PTH207
    found = sorted(one for one in map(Path, matches) if one.is_file())
    if not found:
        raise GeoClickError(f"No file matches {word!r}; fix the pattern.")
    return found


def read_list(path: Path) -> list[tuple[Path, str]]:
    """The images of a list, each with its query, empty if the list has none.

    Args:
        path: a text file with a path in each line, or, if its name ends with `.jsonl`, a JSON object with `image` and
            possibly `query` in each line. Empty lines are skipped. Paths are relative to the current folder.

    Raises:
        GeoClickError: the file cannot be read, names no image, or a line is wrong.
    """
    files.refuse_special(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise GeoClickError(f"The list {path} does not exist; check --from.") from error
    except UnicodeDecodeError as error:
        raise GeoClickError(f"The list {path} is no text in UTF-8; give a list of paths.") from error
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise GeoClickError(f"The list {path} names no image; write a path in each line.")
    if path.suffix.lower() != ".jsonl":
        return [(Path(line), "") for _, line in numbered]
    return [_entry(line, f"{path}, line {number}") for number, line in numbered]


def _entry(line: str, where: str) -> tuple[Path, str]:
    """The image and the query in a line of JSON."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise GeoClickError(f'{where} is no JSON; write {{"image": PATH, "query": TEXT}}.') from error
    image, query = (entry.get("image"), entry.get("query", "")) if isinstance(entry, dict) else (None, "")
    if not isinstance(image, str) or not image or not isinstance(query, str):
        raise GeoClickError(f'{where} names no image; write {{"image": PATH, "query": TEXT}}.')
    if "query" in entry:
        plain_text.check_query(query, f"The query of {where}")
    return Path(image), query


def queries(images: Iterable[Input]) -> int:
    """The number of queries about all images."""
    return sum(len(image.texts) for image in images)
