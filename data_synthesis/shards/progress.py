"""What a job keeps beside its store until that is whole: its options, the accounts of its shards, who claims which.

An interrupted job leaves it to the next start, with as many processes as that may have.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from geoclick import store
from geoclick.datasets import LeftOut, Sample
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import write_whole
from geoclick.jobs import processes

FOLDER = "progress"
"""Inside the output; removed when the store is whole."""


def fingerprint(samples: Iterable[Sample]) -> str:
    """A hash, hexadecimal, of all that the clicks of these samples depend on but their images' pixels."""
    digest = hashlib.sha256()
    for s in samples:
        fields = [s.sample_id, s.task, s.query, s.image, s.size, s.rle, s.valid_rle, s.category]
        digest.update(json.dumps(fields, sort_keys=True).encode())
    return digest.hexdigest()


def begin(output: Path, options: dict[str, Any]) -> bool:
    """Open a job on a folder, new or interrupted; returns whether its store is whole already.

    Raises:
        UsageError: the folder belongs to a job with other options, or to another command.
    """
    whole, begun = is_whole(output), output / FOLDER / "job.json"
    if whole or begun.is_file():
        old = store.read_manifest(output) if whole else _kept(begun)
        if other := _difference(old, options):
            key, value = other
            raise UsageError(
                f"{output} was begun with {key} {old.get(key)!r}, not {value!r}; "
                "start it again with the same options, or name another --output."
            )
        return whole
    if (output / "config.yaml").exists() or list(output.glob("clicks-*.parquet")):
        raise UsageError(f"{output} holds another run; name another --output.")
    write_whole(begun, json.dumps(options, indent=2) + "\n")
    return False


def is_whole(output: Path) -> bool:
    """Whether the store is whole."""
    return (output / "manifest.json").is_file()


def _difference(old: dict[str, Any], options: dict[str, Any]) -> tuple[str, Any] | None:
    """The first key of the options that is not as it was, with its value now."""
    options = json.loads(json.dumps(options))  # as they are read back: no tuples
    return next(((key, value) for key, value in options.items() if old.get(key) != value), None)


def join(output: Path, options: dict[str, Any]) -> BinaryIO | None:
    """Take part in a job: process 0 opens it, new or interrupted, the others wait until it has.

    Args:
        output: the folder of the store.
        options: what its rows depend on.

    Returns:
        The claims, to be closed at the end; None when the store is whole already.

    Raises:
        UsageError: as `begin`, in process 0.
        GeoClickError: another job is writing there, or process 0 does not open this one.
    """
    if not processes.is_first():
        return _follow(output, options)
    if begin(output, options):
        return None
    if claims := processes.lead(_claims(output)):
        return claims
    raise GeoClickError(f"Another job is writing {output}; wait until it has ended, or stop it.")


def _follow(output: Path, options: dict[str, Any]) -> BinaryIO | None:
    opened: list[BinaryIO] = []

    def is_open() -> bool:
        if is_whole(output):
            return True
        try:
            # What an earlier job left may have other options: process 0 tells.
            if _difference(_kept(output / FOLDER / "job.json"), options):
                return False
        except FileNotFoundError:
            return False
        if claims := processes.follow(_claims(output)):
            opened.append(claims)
        return bool(opened)

    processes.wait_for(is_open, f"begun to write {output}")
    return opened[0] if opened else None


def _claims(output: Path) -> Path:
    return output / FOLDER / "claims"


def claim_shards(
    output: Path, count: int, claims: BinaryIO, on_finished: Callable[[int], None]
) -> Iterator[int]:
    """The shards that this process is to write, until all are there.

    Each is claimed until the next one is asked for. Fast processes so take more than slow ones, and those of one that
    dies are taken by another.

    Args:
        output: the store.
        count: of its shards.
        claims: what `join` gave.
        on_finished: told of each shard that is found finished and was not yielded, once.
    """
    told: set[int] = set()
    while True:
        finished = store.finished_shards(output, count)
        for index in sorted(finished - told):
            on_finished(index)
        told |= finished
        missing = sorted(set(range(count)) - finished)
        if not missing:
            return
        index = next((index for index in missing if processes.take(claims, 1 + index)), None)
        if index is None:
            time.sleep(processes.GLANCE)
            continue
        # Its last holder may have finished it between the look and the claim.
        if not (output / store.shard_name(index, count)).is_file():
            told.add(index)
            yield index
        processes.give_back(claims, 1 + index)


def wait_until_whole(output: Path, claims: BinaryIO) -> None:
    """Wait until process 0 has finished the store; raises processes.Ended when it ends without."""
    processes.wait_for_holder(claims, processes.LEAD)
    if not is_whole(output):
        raise processes.Ended


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
