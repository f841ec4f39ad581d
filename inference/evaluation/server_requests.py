"""What an evaluation with a model on a server adds to its run folder: sums of the requests, and the failed samples."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import rmtree

from geoclick import output_folder
from geoclick.errors import UsageError
from geoclick.files import whole
from geoclick.inference.backends import ledger
from geoclick.inference.backends.ledger import Summary
from geoclick.inference.evaluation.run_folder import EvaluationFolder
from geoclick.jobs import processes
from geoclick.scoring import records

FAILURES = "failures.jsonl"


class Requests(Summary):
    """The sums of the requests of an evaluation.

    Attributes:
        resized_images: images that were larger than --image-side.
    """

    resized_images: int


def finish(output: Path, side: int) -> Requests:
    """Write failures.jsonl from a finished run; returns the sums of its requests.

    Args:
        output: the run folder.
        side: longest side in pixels of the images that were sent.
    """
    resized, failed = set[str](), list[dict[str, str]]()
    for entry in records.read(output / records.PREDICTIONS):
        if max(entry["size"]) > side:
            resized.add(entry["image"])
        if entry["status"] == "failed":
            names = {"sample_id": entry["sample_id"], "image": entry["image"], "query": entry["query"]}
            failed.append(names | {"error": entry.get("error", "")})
    write_failures(output / FAILURES, failed)
    return {**ledger.read_summary(output / ledger.FOLDER), "resized_images": len(resized)}


def write_failures(path: Path, failed: Sequence[Mapping[str, str]]) -> None:
    """Write a line for each sample without an answer; no file if there is none."""
    path.unlink(missing_ok=True)
    if failed:
        with whole(path) as partial:
            lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in failed)
            partial.write_text("".join(lines), encoding="utf-8")


def forget_failed(folder: EvaluationFolder) -> None:
    """Remove the results of a run, so that it is continued: the answers of the server are in the ledger.

    Raises:
        GeoClickError: the folder holds another run.
        UsageError: another command is writing it, or this one has several processes.
    """
    if processes.count() > 1:
        raise UsageError("--retry-failed works in one process; start one, with a larger --concurrency.")
    with output_folder.opened(folder.path, folder.COMMAND):
        if folder.check():
            (folder.path / records.PREDICTIONS).unlink(missing_ok=True)
            rmtree(folder.work, ignore_errors=True)


def lines(sums: Requests) -> Iterator[str]:
    """The sums for the terminal."""
    yield from ledger.lines(sums)
    if sums["resized_images"]:
        yield f"{sums['resized_images']:,} images were sent smaller than they are (--image-side)."
    if sums["failed"]:
        yield "rerun the command with --retry-failed to ask again for the samples that failed"
