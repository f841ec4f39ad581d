"""What an evaluation with a model on a server adds to its run folder: sums of the requests, and the failed samples."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import rmtree

from geoclick.files import whole
from geoclick.inference.backends import ledger
from geoclick.inference.backends.ledger import Summary
from geoclick.inference.evaluation.run_folder import EvaluationFolder
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
    """
    if folder.check():
        (folder.path / records.PREDICTIONS).unlink(missing_ok=True)
        rmtree(folder.work, ignore_errors=True)


def lines(summary: Requests) -> Iterator[str]:
    """The sums for the terminal."""
    models = ", ".join(summary["models"]) or "no model"
    cost = "" if summary["cost"] is None else f", cost {summary['cost']:.4f}"
    yield (
        f"server: {summary['answered']:,} requests answered by {models}, {summary['failed']:,} failed, "
        f"{summary['retries']:,} retries, {summary['input_tokens']:,} tokens in, {summary['output_tokens']:,} out{cost}"
    )
    if summary["resized_images"]:
        yield f"{summary['resized_images']:,} images were sent smaller than they are (--image-side)."
    if summary["cut_answers"]:
        yield (
            f"{summary['cut_answers']:,} answers were cut at the largest length; give a larger --max-new-tokens."
        )
    if summary["off_schema"]:
        yield f"{summary['off_schema']:,} answers are no JSON object, although --structured json_schema asked for one."
    if summary["failed"]:
        yield "rerun the command with --retry-failed to ask again for the samples that failed"
    if len(summary["models"]) > 1:
        yield "warning: the server answered with several models; their scores are mixed."
