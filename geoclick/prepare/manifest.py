"""`prepared.json`: which job wrote an output, and the SHA-256 of every file in it."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict, cast

from geoclick import files
from geoclick.datasets.reading import inside
from geoclick.errors import GeoClickError, UsageError

NAME = "prepared.json"
MAX_NAMED = 4
"""Files that an error names; the others are counted."""


class Identity(TypedDict):
    """What determines the bytes of an output: the job, its version and parameters, and the names of the raw images."""

    job: str
    version: int
    split: str
    tile: list[int] | None
    overlap: int
    images: list[str]


class Manifest(Identity):
    """The content of `prepared.json`.

    `tiles` is the number of images written, `unknown_pixels` the number of label pixels without a class by raw image,
    and `files` the SHA-256 of every file by its name.
    """

    tiles: int
    unknown_pixels: dict[str, int]
    files: dict[str, str]


def read(output: Path) -> Manifest | None:
    """The manifest of an output, None if there is none; raises GeoClickError if it is broken."""
    path = output / NAME
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content["files"], dict) or not all(
            isinstance(digest, str) for digest in content["files"].values()
        ):
            raise ValueError("files must be names with their sha256")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise GeoClickError(f"{path} is broken ({error}); delete {output} and prepare it again.") from error
    return cast(Manifest, content)


def write(output: Path, content: Manifest) -> None:
    """Write the manifest."""
    files.write_whole(output / NAME, json.dumps(content, indent=1) + "\n")


def verify(output: Path, job: str, workers: int) -> int:
    """Compare every file of an output with the manifest.

    Args:
        output: the folder.
        job: name of the job that must have written it.
        workers: number of reading threads.

    Returns:
        The number of files.

    Raises:
        UsageError: there is no manifest, or it is that of another job.
        GeoClickError: files are missing, changed, or not listed.
    """
    content = read(output)
    if content is None:
        raise UsageError(f"{output} holds no {NAME}; finish the job that writes it first.")
    if content.get("job") != job:
        raise UsageError(
            f"{output} was prepared by the job {content.get('job')}, not by {job}; name that one."
        )
    expected = content["files"]
    paths = {name: inside(output, name) for name in expected}
    with ThreadPoolExecutor(workers) as pool:
        digests = dict(zip(paths, pool.map(_sha256, paths.values()), strict=True))
    faults = [f"{name} is missing" for name in expected if digests[name] is None]
    faults += [f"{name} was changed" for name in expected if digests[name] not in (None, expected[name])]
    folders = {path.parent for path in paths.values()}
    present = sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir())
    known = set(paths.values())
    faults += [f"{path} does not belong to it" for path in present if path.resolve() not in known]
    if faults:
        shown = ", ".join(faults[:MAX_NAMED]) + (", ..." if len(faults) > MAX_NAMED else "")
        raise GeoClickError(
            f"{output} differs from {NAME} in {len(faults)} files: {shown}; delete the folder and prepare it again."
        )
    return len(expected)


def _sha256(path: Path) -> str | None:
    return files.sha256(path) if path.exists() else None
