"""What an interrupted job leaves for the next start: its settings and the accounts of its shards."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from geoclick import store
from geoclick.datasets import LeftOut, Sample
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import write_whole

FOLDER = "progress"
"""Inside the output; removed when the store is whole."""


def fingerprint(samples: Iterable[Sample]) -> str:
    """A hash, hexadecimal, of all that the clicks of these samples depend on but their images' pixels."""
    digest = hashlib.sha256()
    for s in samples:
        fields = [s.sample_id, s.task, s.query, s.image, s.size, s.rle, s.valid_rle, s.category]
        digest.update(json.dumps(fields, sort_keys=True).encode())
    return digest.hexdigest()


def begin(output: Path, settings: dict[str, Any]) -> bool:
    """Open a job on a folder, new or interrupted; returns whether its store is whole already.

    Raises:
        UsageError: the folder belongs to a job with other settings, or to another command.
    """
    whole, begun = (output / "manifest.json").is_file(), output / FOLDER / "job.json"
    settings = json.loads(json.dumps(settings))  # as they are read back: no tuples
    if whole or begun.is_file():
        old = store.read_manifest(output) if whole else _kept(begun)
        for key, value in settings.items():
            if old.get(key) != value:
                raise UsageError(
                    f"{output} was begun with {key} {old.get(key)!r}, not {value!r}; "
                    "start it again with the same options, or name another --output."
                )
        return whole
    if (output / "config.yaml").exists() or list(output.glob("clicks-*.parquet")):
        raise UsageError(f"{output} holds another run; name another --output.")
    write_whole(begun, json.dumps(settings, indent=2) + "\n")
    return False


def _kept(path: Path) -> dict[str, Any]:
    """A file of the interrupted job."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GeoClickError(
            f"{path} is broken; delete {path.parents[1]} and start the same command again."
        ) from error


def _account(output: Path, index: int) -> Path:
    return output / FOLDER / f"shard-{index:05d}.json"


def write_account(output: Path, index: int, left_out: Sequence[LeftOut], seconds: float) -> None:
    """Keep what one shard left out and how long it took; to be written before the shard itself."""
    account = {"left_out": [asdict(item) for item in left_out], "seconds": seconds}
    write_whole(_account(output, index), json.dumps(account) + "\n")


def read_account(output: Path, index: int) -> tuple[list[LeftOut], float]:
    """What one finished shard left out, and its seconds."""
    account = _kept(_account(output, index))
    return [LeftOut(**item) for item in account["left_out"]], account["seconds"]


def end(output: Path) -> None:
    """Remove what only an interrupted job needs."""
    shutil.rmtree(output / FOLDER, ignore_errors=True)
