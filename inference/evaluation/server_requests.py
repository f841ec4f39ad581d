"""What an evaluation with a model on a server adds to its run folder: sums of the requests, and the failed samples."""

import json
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

from geoclick.files import whole
from geoclick.inference.backends import ledger
from geoclick.inference.backends.ledger import Summary
from geoclick.inference.evaluation.run_folder import EvaluationFolder
from geoclick.scoring import records

FAILURES = "failures.jsonl"


def finish(output: Path) -> Summary:
    """Write failures.jsonl from a finished run; returns the sums of its requests."""
    write_failures(output)
    return ledger.read_summary(output / ledger.FOLDER)


def write_failures(output: Path) -> None:
    """Write a line for each sample without an answer; no file if there is none."""
    path = output / FAILURES
    path.unlink(missing_ok=True)
    failed = [entry for entry in records.read(output / records.PREDICTIONS) if entry["status"] == "failed"]
    if failed:
        with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
            for entry in failed:
                line = {
                    "sample_id": entry["sample_id"],
                    "image": entry["image"],
                    "query": entry["query"],
                    "error": entry.get("error", ""),
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def forget_failed(folder: EvaluationFolder) -> None:
    """Remove the results of a run, so that it is continued: the answers of the server are in the ledger.

    Raises:
        GeoClickError: the folder holds another run.
    """
    if folder.check():
        (folder.path / records.PREDICTIONS).unlink(missing_ok=True)
        rmtree(folder.work, ignore_errors=True)


def lines(summary: Summary) -> Iterator[str]:
    """The sums for the terminal."""
    models = ", ".join(summary["models"]) or "no model"
    cost = "" if summary["cost"] is None else f", cost {summary['cost']:.4f}"
    yield (
        f"server: {summary['answered']:,} requests answered by {models}, {summary['failed']:,} failed, "
        f"{summary['retries']:,} retries, {summary['input_tokens']:,} tokens in, {summary['output_tokens']:,} out{cost}"
    )
    if summary["cut_answers"]:
        yield (
            f"{summary['cut_answers']:,} answers were cut at the largest length; give a larger --max-new-tokens."
        )
    if summary["failed"]:
        yield "rerun the command with --retry-failed to ask again for the samples that failed"
    if len(summary["models"]) > 1:
        yield "warning: the server answered with several models; their scores are mixed."
