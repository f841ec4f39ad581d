"""The user's cache folder: what a run computes from its data, in files named by content, for all runs and processes.

`GEOCLICK_CACHE` names the folder, or else `XDG_CACHE_HOME`; the default is ~/.cache/geoclick. The name of a file is the
hash of everything that decides its content, so that no file is ever out of date, and the folder may be deleted while no
run uses it. A file appears when it is complete. Of several processes that need the same one, on a node or on a shared
disk, one makes it and the others wait for it.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from geoclick import files
from geoclick.errors import GeoClickError

Content = str | int | float | None | Sequence["Content"] | Mapping[str, "Content"]
"""What decides a file, as JSON."""


def folder() -> Path:
    """The cache folder, which may not exist yet."""
    if named := os.environ.get("GEOCLICK_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geoclick"


def key(content: Content) -> str:
    """The hash of what decides a file, 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def path(kind: str, content: Content, suffix: str) -> Path:
    """The file of a kind that depends on `content` alone."""
    return folder() / kind / f"{key(content)}{suffix}"


@contextmanager
def missing(path: Path) -> Iterator[Path | None]:
    """A temporary path, renamed to `path` when the block succeeds; None if the file is there.

    A process that finds another one making the file waits until that one has succeeded, or has ended without success.

    Raises:
        GeoClickError: the folder cannot be written.
    """
    if path.is_file():
        yield None
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("ab")
    except OSError as error:
        raise GeoClickError(
            f"The cache folder {path.parent} is not writable ({error.strerror}); set GEOCLICK_CACHE to another folder."
        ) from error
    with lock:
        # The kernel unlocks it when this process ends, however it ends.
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if path.is_file():
            yield None
            return
        with files.whole(path) as partial:
            yield partial


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder and below it."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
