"""The progress of a click store: its folder while it is incomplete, the accounts of its shards, who writes which.

An interrupted job continues with the next start, by any number of processes.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from geoclick import store
from geoclick.components import AREA, DISTANCE
from geoclick.data_synthesis.simulation.part_rules import DEFAULT_ORDER
from geoclick.datasets import LeftOut, Sample
from geoclick.errors import UsageError
from geoclick.files import sha256_of_all, write_whole
from geoclick.jobs import claims, processes
from geoclick.jobs.run_folder import RunFolder, read_record

FOLDER = "progress"
"""Subfolder of the store; removed when the store is complete."""

DATA = {
    "samples_read": "The dataset has",
    "samples_sha256": "The dataset has",
    "pixels_sha256": "An image of the dataset has",
    "segmenter_sha256": "The file of the segmenter's weights has",
    "vlm_fingerprint": "The model that clicks first has",
    "adapter_sha256": "The adapter of the model that clicks first has",
}
"""Recorded settings that are no options, with the beginning of the sentence that they differ."""


LATER_OPTIONS: dict[str, bool | str | float] = {
    **dict.fromkeys(("components", "by_class", "crowds", "empty_images"), False),
    **{"parts": "one", "part_distance": DISTANCE, "part_area": AREA, "part_order": DEFAULT_ORDER},
}
"""Options that records of older stores lack, with what they did. If their samples are others, the record's
samples_sha256 differs."""


class StoreFolder(RunFolder):
    """The folder of a click store, whose manifest is written last."""

    WORK, RECORD, RESULT = FOLDER, f"{FOLDER}/job.json", "manifest.json"
    COMMAND = "synth"

    def recorded(self) -> dict[str, Any] | None:
        """The recorded settings, of a complete store those in its manifest; None if there are none."""
        recorded = store.read_manifest(self.path) if self.is_complete() else super().recorded()
        if recorded is None:
            return None
        if "first" not in recorded:
            # The --limit of earlier versions took the first samples.
            recorded |= {"first": recorded.get("limit"), "limit": None}
        recorded = {key: value for key, value in recorded.items() if key in self.settings}
        later = {key: value for key, value in LATER_OPTIONS.items() if key in self.settings}
        # Earlier versions did not record it.
        pixels = {key: self.settings[key] for key in ("pixels_sha256",) if key in self.settings}
        return {**later, **pixels, **recorded}

    def check_new(self) -> None:
        """Raise UsageError if the folder, which has no record, holds another run."""
        if (self.path / "config.yaml").exists() or list(self.path.glob("clicks-*.parquet")):
            raise UsageError(f"{self.path} holds another run; name another --output.")

    def refusal(self, key: str, recorded: Any) -> UsageError:
        """The error for a store that was started with another value of an option, or on other data."""
        if what := DATA.get(key):
            return UsageError(
                f"{what} changed since {self.path} was started; restore it, or name another --output."
            )
        # In earlier versions --limit took the first samples.
        hint = " (--limit is a random pick, --first takes the first samples)" if key == "limit" else ""
        return UsageError(
            f"{self.path} was started with {key} {recorded!r}, not {self.settings.get(key)!r}{hint}; "
            "rerun the command with the same options, or name another --output."
        )


def fingerprint(samples: Iterable[Sample]) -> str:
    """A hash, hexadecimal, of everything in these samples that decides their clicks, except the images' pixels."""
    digest = hashlib.sha256()
    for s in samples:
        fields = [s.sample_id, s.task, s.query, s.image, s.size, s.rle, s.valid_rle, s.category]
        digest.update(json.dumps(fields, sort_keys=True).encode())
    return digest.hexdigest()


def pixels_fingerprint(samples: Iterable[Sample]) -> str:
    """A hash, hexadecimal, of the contents of the image files of these samples."""
    paths = dict.fromkeys(s.root / s.image for s in samples)
    return sha256_of_all(path for path in paths if path.is_file())


def claim_shards(
    output: Path, count: int, held: BinaryIO, on_finished: Callable[[int], None]
) -> Iterator[int]:
    """The shards that this process has to write, until all exist.

    A shard is claimed until the next one is requested. So fast processes write more shards than slow ones, and another
    process takes over the shards of one that died.

    Args:
        output: the store.
        count: number of its shards.
        held: the claims of the job.
        on_finished: called once with each shard that another process or an earlier start has written.
    """
    seen: set[int] = set()
    while True:
        finished = store.finished_shards(output, count)
        for index in sorted(finished - seen):
            on_finished(index)
        seen |= finished
        missing = sorted(set(range(count)) - finished)
        if not missing:
            return
        claimed = next((index for index in missing if claims.acquire(held, 1 + index)), None)
        if claimed is None:
            time.sleep(processes.POLL_SECONDS)
            continue
        # Its last holder may have finished it after `finished` was read.
        if not (output / store.shard_name(claimed, count)).is_file():
            seen.add(claimed)
            yield claimed
        claims.release(held, 1 + claimed)


def _account(output: Path, index: int) -> Path:
    return output / FOLDER / f"shard-{index:05d}.json"


def write_account(output: Path, index: int, left_out: Sequence[LeftOut], seconds: float) -> None:
    """Store what one shard left out and how long it took; to be written before the shard itself."""
    account = {"left_out": [asdict(item) for item in left_out], "seconds": seconds}
    write_whole(_account(output, index), json.dumps(account) + "\n")


def read_account(output: Path, index: int) -> tuple[list[LeftOut], float]:
    """What one finished shard left out, and its seconds."""
    account = read_record(_account(output, index), output)
    return [LeftOut(**item) for item in account["left_out"]], account["seconds"]
