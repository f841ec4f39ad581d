"""The contents of a run's images: a resumed run must not go on with images that have changed.

`images.sha256` in the output folder has a line for each image, in the format of sha256sum.
"""

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from geoclick import files
from geoclick.errors import GeoClickError
from geoclick.jobs import processes
from geoclick.progress_bar import track

NAME = "images.sha256"
"""File in the output folder of a run."""

THREADS = 16
"""Files that are read at once; a disk in the network answers each after milliseconds."""

TOGETHER = 64
"""Files at most that are handed to a thread at once, since to hand over a small file takes as long as to read it."""

LONG = 10_000
"""Images from which the progress is shown."""

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def named(paths: Iterable[str], roots: Iterable[str]) -> dict[str, Path]:
    """Images by name: the path below the root that holds them, with the root as the user gave it.

    Images below none of the roots are left out. They are in the cache folder, in files named by their content.

    Args:
        paths: absolute paths, links resolved.
        roots: folders.
    """
    starts = {f"{Path(root).resolve()}/": Path(root) for root in roots}
    found = {}
    for path in sorted(set(paths)):
        start = next((start for start in starts if path.startswith(start)), None)
        if start is not None:
            found[str(starts[start] / path[len(start) :])] = Path(path)
    return found


def of(images: Mapping[str, Path]) -> dict[str, str]:
    """The SHA-256, hexadecimal, of each image by its name; process 0 reads the files and sends it to the others.

    Raises:
        OSError: a file cannot be read.
    """
    from accelerate.utils import broadcast_object_list

    hashes: dict[str, str] = {}
    if processes.is_first():
        paths = list(images.values())
        # Of few files, which may be large, each thread gets some.
        together = max(min(TOGETHER, len(paths) // (4 * THREADS)), 1)
        groups = [paths[start : start + together] for start in range(0, len(paths), together)]
        with ThreadPoolExecutor(THREADS) as pool:
            read = pool.map(lambda group: [files.sha256(path) for path in group], groups)
            shown = track(read, "Hashing images", len(groups), shown=len(images) >= LONG, transient=True)
            hashes = dict(zip(images, chain.from_iterable(shown), strict=True))
    sent: list[dict[str, str]] = broadcast_object_list([hashes])
    return sent[0]


def write(output: Path, hashes: Mapping[str, str]) -> None:
    """Write the hashes of a run's images to its output folder."""
    lines = (f"{digest}  {name}\n" for name, digest in hashes.items())
    files.write_whole(output / NAME, "".join(lines))


def read(output: Path) -> dict[str, str]:
    """The hashes in an output folder; empty if there are none, as in runs of earlier versions.

    Raises:
        GeoClickError: the file is damaged.
    """
    path = output / NAME
    if not path.exists():
        return {}
    try:
        lines = [_LINE.fullmatch(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        lines = [None]
    if None in lines:
        raise GeoClickError(f"{path} is damaged; restore it, or delete it if no image has changed.")
    return {line[2]: line[1] for line in lines if line}


def leave_out_broken(output: Path, error: str) -> None:
    """Remove the image with which an error begins, so that the run may resume with another file in its place."""
    hashes = read(output)
    rest = {
        name: digest
        for name, digest in hashes.items()
        if not error.startswith((f"{name} ", f"{Path(name).absolute()} "))
    }
    if len(rest) < len(hashes):
        write(output, rest)
