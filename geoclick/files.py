"""Files: atomic writing, checksums, and paths that stay inside a folder."""

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from geoclick.errors import GeoClickError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path next to `path`, renamed to it when the block succeeds and removed when it fails."""
    # One fixed name: the next job overwrites what a killed one has left.
    partial = path.with_name(f"{path.name}.partial")
    if partial.is_symlink():
        partial.unlink()
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def incomplete(path: Path) -> OSError:
    """The error for a file that a library has written incompletely without an error of its own."""
    return OSError(errno.EIO, "The file could not be written completely", str(path))


def write_whole(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; missing parent folders are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def refuse_link(path: Path) -> None:
    """Raise GeoClickError if a path is a link: writing to it would replace a file elsewhere."""
    if path.is_symlink():
        raise GeoClickError(f"{path} is a link to another place; remove it and rerun the command.")


def refuse_special(path: Path) -> None:
    """Raise GeoClickError if a path is a folder, a pipe or a device, of which some never end."""
    if path.exists() and not path.is_file():
        raise GeoClickError(f"{path} is no plain file; name another one, or replace it.")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(paths: Iterable[Path]) -> str:
    """Hexadecimal SHA-256 of the hexadecimal SHA-256 of each of several files, in their order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(sha256(path).encode())
    return digest.hexdigest()


def inside(root: Path, path: str | Path) -> Path:
    """`root / path` with links resolved; raises GeoClickError if it lies outside `root`."""
    resolved = (root / path).resolve()
    if not resolved.is_relative_to(root.resolve()):
        raise GeoClickError(f"{path} leads out of {root}; keep the dataset's files inside its root.")
    return resolved
