"""The folder of an evaluation and its work in parts, which one or many processes answer and process 0 joins.

A part is some batches of samples that follow one another in the dataset. Which samples make a batch depends on the
dataset, the kind of predictor and the batch size only, so that one process, many processes and an interrupted run that
was continued ask the same batches and get the same answers. For predictors of maps a batch is an image with all its
samples, and a part ends with an image. A process claims a part (geoclick/jobs/claims.py) and appends answers to its
file; another one continues the file of a process that died.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from geoclick.datasets.selection import by_image
from geoclick.errors import GeoClickError
from geoclick.files import whole
from geoclick.inference.evaluation.protocol import ADDED
from geoclick.jobs import claims, processes
from geoclick.jobs.run_folder import RunFolder
from geoclick.scoring import records
from geoclick.scoring.records import Record

if TYPE_CHECKING:
    from geoclick.datasets import Sample

FOLDER = "parts"
"""Subfolder of the output; removed when the evaluation is complete."""
BATCHES = 8
"""Batches of a part."""

Entry = dict[str, Any]
"""A record with the position of its sample in the dataset, a line of a part's file."""


class EvaluationFolder(RunFolder):
    """The folder of an evaluation; its settings are the protocol, everything that decides the scores."""

    WORK, RECORD, RESULT, JOB = FOLDER, "protocol.json", records.PREDICTIONS, "evaluation"
    COMMAND = "evaluate"
    OF_DATA = (
        *("n", "images", "smallest_image", "largest_image", "broken_and_skipped", "left_out"),
        *("images_sha256", "samples_sha256", "pixels_sha256"),
    )

    def __init__(self, path: Path, settings: dict[str, Any], newest: tuple[float, str] | None = None) -> None:
        """Name the folder of a protocol.

        Args:
            path: the folder.
            settings: the protocol.
            newest: see `protocol.newest`; None if there is no such file.
        """
        super().__init__(path, settings)
        self.newest = newest or (0.0, "")

    def recorded(self) -> dict[str, Any] | None:
        """The recorded protocol; None if there is none.

        What an earlier version did not record is taken to be equal if no file has changed since.

        Raises:
            GeoClickError: a file has changed, or the earlier version took other samples for `--limit`.
        """
        recorded = super().recorded()
        if recorded is None:
            return None
        missing = [key for key in ADDED if key in self.settings and key not in recorded]
        if not missing:
            return recorded
        if self.settings.get("limit") and recorded.get("samples_sha256") != self.settings["samples_sha256"]:
            raise GeoClickError(
                f"{self.path} was made by an earlier version, whose --limit took the first samples; "
                "give --first in place of --limit to continue it, or another --output."
            )
        time, file = self.newest
        if time > (self.path / self.RECORD).stat().st_mtime:
            raise GeoClickError(
                f"{self.path} was made by an earlier version, which did not record the contents of {file}, "
                "and that file has changed since; give another --output or delete that folder."
            )
        return recorded | {key: self.settings[key] for key in missing}

    def check_new(self) -> None:
        """Raise GeoClickError if the folder holds predictions without a protocol."""
        if self.is_complete():
            raise GeoClickError(f"{self.path} holds predictions of unknown protocol; give another --output.")

    def refusal(self, key: str, recorded: Any) -> GeoClickError:
        """The error for a folder whose run has another protocol."""
        if key in self.OF_DATA:
            root = self.settings["root"]
            images = key == "pixels_sha256"
            changed = (
                f"images of {root}" if images else f"samples of {root}, or the options that select them,"
            )
            return GeoClickError(
                f"The {changed} have changed since {self.path} was made; give another --output or delete that folder."
            )
        return GeoClickError(
            f"{self.path} holds a run with {key} {recorded!r}, not {self.settings.get(key)!r}; "
            "give another --output or delete that folder."
        )


@dataclass(frozen=True)
class Part:
    """Samples that one process answers.

    Attributes:
        number: from 0.
        start: position of its first sample in the dataset.
        samples: in the dataset's order.
        by_image: whether a batch is an image with all its samples.
    """

    number: int
    start: int
    samples: tuple["Sample", ...]
    by_image: bool = False

    def batches(self, size: int) -> Iterator[list[tuple[int, "Sample"]]]:
        """The samples with their positions: image by image, or shortest prompts first and those of one image together.

        An image is embedded once per batch. The visual tokens, not the query, decide how long a prompt is.

        Args:
            size: samples in a batch; a batch that is an image has all its samples.
        """

        def length(item: tuple[int, "Sample"]) -> tuple[int, str, int, str]:
            sample = item[1]
            return sample.size[0] * sample.size[1], sample.image, len(sample.query), sample.sample_id

        numbered = enumerate(self.samples, start=self.start)
        if self.by_image:
            for _, group in groupby(numbered, key=lambda item: item[1].image):
                yield list(group)
            return
        order = sorted(numbered, key=length)
        for first in range(0, len(order), size):
            yield order[first : first + size]


def most_parts(samples: int, batch_size: int, *, by_image: bool) -> int:
    """The largest number of parts of a dataset with so many samples, see `split` and `split_by_image`."""
    return -(-samples // (batch_size if by_image else BATCHES * batch_size))


def split(samples: Iterable["Sample"], batch_size: int) -> Iterator[Part]:
    """The parts of a dataset in order; one at a time is in memory."""
    stream, number, size = iter(samples), 0, BATCHES * batch_size
    while chunk := tuple(islice(stream, size)):
        yield Part(number, number * size, chunk)
        number += 1


def split_by_image(samples: Iterable["Sample"], batch_size: int) -> Iterator[Part]:
    """The parts of a dataset in order, each of complete images; a part ends where it has `batch_size` samples or more.

    Args:
        samples: those of one image follow one another.
        batch_size: smallest number of samples of a part, except for the last one.
    """
    chunk: list[Sample] = []
    number = start = 0
    for group in by_image(samples):
        chunk += group
        if len(chunk) >= batch_size:
            yield Part(number, start, tuple(chunk), by_image=True)
            number, start, chunk = number + 1, start + len(chunk), []
    if chunk:
        yield Part(number, start, tuple(chunk), by_image=True)


def answer(
    output: Path,
    parts: Callable[[], Iterable[Part]],
    held: BinaryIO,
    *,
    batch_size: int,
    ask: Callable[[list[tuple[int, "Sample"]]], list[Record]],
    advance: Callable[[int], None],
) -> None:
    """Answer all parts together with the other processes.

    Process 0 returns when all parts are complete, and answers again what a process that died has left. The others
    return when every part has been claimed by some process.

    Args:
        output: the run folder.
        parts: returns a new stream of all parts.
        held: the claims of the run.
        batch_size: samples that are asked together.
        ask: a batch to its records, in the same order.
        advance: called with the number of further answers.
    """
    missing: set[int] | None = None
    while missing is None or missing:
        others: dict[int, int] = {}
        for part in parts():
            if missing is not None and part.number not in missing:
                continue
            if not claims.acquire(held, 1 + part.number):
                others[part.number] = len(part.samples)
                continue
            _answer_part(output, part, batch_size, ask, advance)
            claims.release(held, 1 + part.number)
        if not processes.is_first():
            return
        missing = set()
        for number, count in others.items():
            claims.wait_until_released(held, 1 + number)
            if len(_entries(output, number)) < count:
                missing.add(number)
            else:
                advance(count)


def _answer_part(
    output: Path,
    part: Part,
    batch_size: int,
    ask: Callable[[list[tuple[int, "Sample"]]], list[Record]],
    advance: Callable[[int], None],
) -> None:
    """Answer what is missing in a part's file."""
    done = answered(output, part.number)
    # Only now: process 0 may have joined and removed the parts before they were read.
    if _is_complete(output):
        return
    advance(len(done))
    for entries in answers(part, done, batch_size, ask):
        append(output, part.number, entries)
        advance(len(entries))


def answered(output: Path, number: int) -> frozenset[int]:
    """The positions of the samples of a part that its file has answers of; a line that a kill cut short is removed."""
    done = frozenset(entry["position"] for entry in _entries(output, number))
    _remove_broken_line(output, number)
    return done


def answers(
    part: Part,
    done: Collection[int],
    batch_size: int,
    ask: Callable[[list[tuple[int, "Sample"]]], list[Record]],
) -> Iterator[list[Entry]]:
    """The missing answers of a part, batch by batch, as the lines of its file.

    A batch of which some answers exist is asked as before, since answers may depend on what is asked together.

    Args:
        part: the samples.
        done: positions of those that have an answer.
        batch_size: samples that are asked together.
        ask: a batch to its records, in the same order.
    """
    for batch in part.batches(batch_size):
        if all(position in done for position, _ in batch):
            continue
        yield [
            {"position": position} | entry
            for (position, _), entry in zip(batch, ask(batch), strict=True)
            if position not in done
        ]


def append(output: Path, number: int, entries: Iterable[Entry]) -> None:
    """Add answers to the file of a part."""
    with _path(output, number).open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))


def _is_complete(output: Path) -> bool:
    return (output / records.PREDICTIONS).is_file()


def _path(output: Path, number: int) -> Path:
    return output / FOLDER / f"{number:06d}.jsonl"


def _entries(output: Path, number: int) -> list[Entry]:
    """The lines of a part's file, without a last one that a kill cut short."""
    path = _path(output, number)
    try:
        lines = path.read_bytes().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n")]
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise GeoClickError(f"{path} is broken ({error}); delete it and rerun the command.") from error


def _remove_broken_line(output: Path, number: int) -> None:
    """Remove a last line that a kill cut short from a part's file."""
    path = _path(output, number)
    if path.exists():
        complete = path.read_bytes().rpartition(b"\n")
        with path.open("r+b") as file:
            file.truncate(len(complete[0]) + len(complete[1]))


def count(output: Path) -> int:
    """Number of answers that an interrupted run has left."""
    return sum(len(_entries(output, int(path.stem))) for path in (output / FOLDER).glob("*.jsonl"))


def finish(output: Path, total: int) -> None:
    """Write predictions.jsonl in the dataset's order, unless it exists.

    Args:
        output: the run folder.
        total: number of samples.

    Raises:
        GeoClickError: the parts hold another number of answers.
    """
    if _is_complete(output):
        return
    written = 0
    with whole(output / records.PREDICTIONS) as partial, partial.open("w", encoding="utf-8") as file:
        for path in sorted((output / FOLDER).glob("*.jsonl")):
            for entry in sorted(_entries(output, int(path.stem)), key=lambda entry: entry["position"]):
                del entry["position"]
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                written += 1
        if written != total:
            raise GeoClickError(f"{output} holds {written} of {total} answers; rerun the command.")
