"""`prepared.json`: what a job was and the sha256 of every file that it wrote."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from geoclick.datasets.reading import inside
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import write_whole

NAME = "prepared.json"
NAMED = 4
"""Files that an error names; it counts the others."""


def read(output: Path) -> dict[str, Any] | None:
    """The manifest of an output, None where there is none; raises GeoClickError when it is broken."""
    path = output / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content["files"], dict) or not all(
            isinstance(entry, str) for entry in content["files"].values()
        ):
            raise ValueError("files must be names with their sha256")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise GeoClickError(f"{path} is broken ({error}); delete {output} and prepare it again.") from error
    return content


def write(output: Path, content: dict[str, Any]) -> None:
    """Write the manifest whole."""
    write_whole(output / NAME, json.dumps(content, indent=1) + "\n")


def verify(output: Path, job: str, workers: int) -> int:
    """Read every file of an output again, and look for files that do not belong to it.

    Args:
        output: the folder.
        job: whose it must be.
        workers: threads that read.

    Returns:
        How many files there are.

    Raises:
        UsageError: there is no manifest, or it is another job's.
        GeoClickError: files are missing, changed, or beside those that were written.
    """
    content = read(output)
    if content is None:
        raise UsageError(f"{output} holds no {NAME}; finish the job that writes it first.")
    if content.get("job") != job:
        raise UsageError(
            f"{output} was prepared by the job {content.get('job')}, not by {job}; name that one."
        )
    expected = content["files"]
    with ThreadPoolExecutor(workers) as pool:
        found = dict(
            zip(expected, pool.map(lambda name: _sha256(inside(output, name)), expected), strict=True)
        )
    faults = [f"{name} is missing" for name in expected if found[name] is None]
    faults += [f"{name} was changed" for name in expected if found[name] not in (None, expected[name])]
    folders = {inside(output, name).parent for name in expected}
    known = {inside(output, name) for name in expected}
    beside = sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir())
    faults += [f"{path} does not belong to it" for path in beside if path.resolve() not in known]
    if faults:
        shown = ", ".join(faults[:NAMED]) + (", ..." if len(faults) > NAMED else "")
        raise GeoClickError(
            f"{output} is not what {NAME} says in {len(faults)} files: {shown}; delete the folder and prepare it again."
        )
    return len(expected)


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
