"""What a server was asked and what it answered: one line for each request, appended as soon as its answer is there.

A continued run takes the answers of the lines instead of asking again, so that no request is paid twice and a killed
run ends in the same answers.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NotRequired, TypedDict

from geoclick.errors import GeoClickError

FOLDER = "requests"
"""Subfolder of an output folder."""


class Entry(TypedDict):
    """One request.

    Attributes:
        key: SHA-256 of everything that was sent.
        server: address of the server.
        date: when the answer came, ISO 8601 in UTC.
        attempts: how often it was sent.
        text: the answer; absent if the request failed.
        error: why it failed; absent otherwise.
        model: the name that the server returned.
        input_tokens: as the server counted them; absent if it does not count.
        output_tokens: likewise, with those of reasoning.
        cost: of these tokens; absent without prices.
        finish: why the answer ended, as the server says: `length` if it was cut.
        structured: whether the server was asked for structured output.
    """

    key: str
    server: str
    date: str
    attempts: int
    text: NotRequired[str]
    error: NotRequired[str]
    model: NotRequired[str]
    input_tokens: NotRequired[int]
    output_tokens: NotRequired[int]
    cost: NotRequired[float]
    finish: NotRequired[str]
    structured: NotRequired[bool]


class Summary(TypedDict):
    """The requests of all lines; see `Entry`.

    Attributes:
        models: names that the server returned, with the number of answers of each.
        addresses: of the servers.
        dates: of the first and the last line.
        answered: requests with an answer.
        failed: requests that failed, and were not answered later.
        retries: further attempts of all requests.
        input_tokens: of all answers.
        output_tokens: likewise.
        cost: None without prices.
        uncounted: answers without token counts, which tokens and cost lack.
        cut_answers: that reached the largest length.
        unstructured: answers without structured output.
        off_schema: answers with it that are no JSON object: the server ignores that it was asked.
    """

    models: dict[str, int]
    addresses: list[str]
    dates: list[str]
    answered: int
    failed: int
    retries: int
    input_tokens: int
    output_tokens: int
    cost: float | None
    uncounted: int
    cut_answers: int
    unstructured: int
    off_schema: int


class Ledger:
    """The lines of one output folder, of which each process has a file; without a folder they are in memory only.

    Attributes:
        answers: the answered requests by their keys.
        cost: of all lines.
    """

    def __init__(self, folder: Path | None = None, rank: int = 0) -> None:
        """Read the lines of all processes of earlier starts.

        Args:
            folder: of the ledger; None for none.
            rank: of this process.

        Raises:
            GeoClickError: a file is broken.
        """
        self._file = folder / f"{rank:04d}.jsonl" if folder else None
        self._lines = list(_read(folder)) if folder else []
        self.answers = {entry["key"]: entry for entry in self._lines if "text" in entry}
        self.cost = sum(entry.get("cost", 0.0) for entry in self._lines)
        if self._file:
            _remove_broken_line(self._file)

    def add(self, entry: Entry) -> None:
        """Append a line."""
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._lines.append(entry)
        self.cost += entry.get("cost", 0.0)
        if "text" in entry:
            self.answers[entry["key"]] = entry

    def summary(self) -> Summary:
        """The sums of this process's lines and of those of earlier starts."""
        return summarize(self._lines)


def read_summary(folder: Path) -> Summary:
    """The sums of the lines of all processes."""
    return summarize(list(_read(folder)))


def summarize(lines: list[Entry]) -> Summary:
    """The sums of lines."""
    answered = [entry for entry in lines if "text" in entry]
    keys = {entry["key"] for entry in answered}
    costs = [entry["cost"] for entry in lines if "cost" in entry]
    dates = sorted(entry["date"] for entry in lines)
    return {
        "models": dict(sorted(Counter(entry.get("model", "") for entry in answered).items())),
        "addresses": sorted({entry["server"] for entry in lines}),
        "dates": [dates[0], dates[-1]] if dates else [],
        "answered": len(answered),
        "failed": len({entry["key"] for entry in lines} - keys),
        "retries": sum(entry["attempts"] - 1 for entry in lines),
        "input_tokens": sum(entry.get("input_tokens", 0) for entry in lines),
        "output_tokens": sum(entry.get("output_tokens", 0) for entry in lines),
        "cost": round(sum(costs), 6) if costs else None,
        "uncounted": sum("input_tokens" not in entry for entry in answered),
        "cut_answers": sum(entry.get("finish") == "length" for entry in answered),
        "unstructured": sum(not entry.get("structured", False) for entry in answered),
        "off_schema": sum(entry.get("structured", False) and not _is_object(entry) for entry in answered),
    }


def lines(summary: Summary) -> Iterator[str]:
    """The sums for the terminal."""
    models = ", ".join(summary["models"]) or "no model"
    cost = "" if summary["cost"] is None else f", cost {summary['cost']:.4f}"
    yield (
        f"server: {summary['answered']:,} requests answered by {models}, {summary['failed']:,} failed, "
        f"{summary['retries']:,} retries, {summary['input_tokens']:,} tokens in, {summary['output_tokens']:,} out{cost}"
    )
    if summary["uncounted"]:
        yield f"{summary['uncounted']:,} answers came without token counts, which the sums lack."
    if summary["cut_answers"]:
        yield (
            f"{summary['cut_answers']:,} answers were cut at the largest length; give a larger --max-new-tokens."
        )
    if summary["off_schema"]:
        yield f"{summary['off_schema']:,} answers are no JSON object, although --structured json_schema asked for one."
    if len(summary["models"]) > 1:
        yield "warning: the server answered with several models; their answers are mixed."


def _is_object(entry: Entry) -> bool:
    """Whether the answer is a JSON object."""
    try:
        return isinstance(json.loads(entry.get("text", "")), dict)
    except (ValueError, RecursionError):
        return False


def _read(folder: Path) -> Iterator[Entry]:
    """All lines of a folder, without last ones that a kill cut short."""
    for path in sorted(folder.glob("*.jsonl")):
        try:
            for line in path.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    yield json.loads(line)
        except ValueError as error:
            raise GeoClickError(f"{path} is broken ({error}); delete it and rerun the command.") from error


def _remove_broken_line(path: Path) -> None:
    """Remove a last line that a kill cut short."""
    if path.exists():
        complete = path.read_bytes().rpartition(b"\n")
        with path.open("r+b") as file:
            file.truncate(len(complete[0]) + len(complete[1]))
