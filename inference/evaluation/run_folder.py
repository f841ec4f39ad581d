"""The work of an evaluation in parts, which one process or many answer, until all are joined to predictions.jsonl.

A part is some batches of samples that follow one another in the dataset. Which samples make a batch follows from the
dataset and the batch size alone, so that one process and many, and a run that was killed and continued, ask the same
batches and get the same answers. A process claims a part (geoclick/jobs/processes.py) and adds what comes to the part's
file; one that a killed process left unfinished is gone on with.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from geoclick.errors import GeoClickError
from geoclick.files import whole, write_whole
from geoclick.jobs import processes
from geoclick.scoring import records

if TYPE_CHECKING:
    from geoclick.datasets import Sample

PROTOCOL = "protocol.json"
FOLDER = "parts"
"""Inside the output; removed when the predictions are whole."""
BATCHES = 8
"""Batches of a part."""


@dataclass(frozen=True)
class Part:
    """Samples that one process answers.

    Attributes:
        number: from 0.
        start: position of its first sample in the dataset.
        samples: in the dataset's order.
    """

    number: int
    start: int
    samples: tuple["Sample", ...]

    def batches(self, size: int) -> Iterator[list[tuple[int, "Sample"]]]:
        """The samples with their positions, shortest prompts first and those of one image together.

        An image is embedded once a batch; the visual tokens, not the query, decide how long a prompt is.
        """

        def length(item: tuple[int, "Sample"]) -> tuple:
            sample = item[1]
            return sample.size[0] * sample.size[1], sample.image, len(sample.query), sample.sample_id

        order = sorted(enumerate(self.samples, start=self.start), key=length)
        for first in range(0, len(order), size):
            yield order[first : first + size]


def split(samples: Iterable["Sample"], batch_size: int) -> Iterator[Part]:
    """The parts of a dataset in order, of which one is held at a time."""
    stream, number, size = iter(samples), 0, BATCHES * batch_size
    while chunk := tuple(islice(stream, size)):
        yield Part(number, number * size, chunk)
        number += 1


def join(output: Path, protocol: dict) -> BinaryIO | None:
    """Take part in a run: process 0 opens it, new or interrupted, the others wait until it has.

    Args:
        output: the run folder.
        protocol: everything that decides the scores.

    Returns:
        The claims, to be closed at the end; None when the predictions are whole already.

    Raises:
        GeoClickError: the folder holds a run with another protocol; or another run is at it.
    """
    protocol = json.loads(json.dumps(protocol))  # as it is read back: no tuples
    claims = output / FOLDER / "claims"
    if processes.is_first():
        _begin(output, protocol)
        if is_whole(output):
            return None
        claims.parent.mkdir(exist_ok=True)
        if opened := processes.lead(claims):
            return opened
        raise GeoClickError(f"Another evaluation is writing {output}; wait until it has ended, or stop it.")
    found: list[BinaryIO] = []

    def is_open() -> bool:
        # What an earlier run left may be another's: process 0 tells.
        if not (output / PROTOCOL).is_file() or _kept(output) != protocol:
            return False
        if opened := processes.follow(claims):
            found.append(opened)
        return bool(found) or is_whole(output)

    processes.wait_for(is_open, f"begun to write {output}")
    return found[0] if found else None


def _begin(output: Path, protocol: dict) -> None:
    """Write the protocol of a new run, or compare it with that of the run that the folder holds."""
    if not (output / PROTOCOL).exists():
        if (output / records.PREDICTIONS).exists():
            raise GeoClickError(f"{output} holds predictions of unknown protocol; give another --output.")
        write_whole(output / PROTOCOL, json.dumps(protocol, indent=2) + "\n")
        return
    earlier = _kept(output)
    other = [key for key in protocol.keys() | earlier.keys() if protocol.get(key) != earlier.get(key)]
    if other:
        key = min(other, key=list(protocol | earlier).index)
        raise GeoClickError(
            f"{output} holds a run with {key} {earlier.get(key)!r}, not {protocol.get(key)!r}; "
            "give another --output or delete that folder."
        )


def _kept(output: Path) -> dict:
    try:
        kept = json.loads((output / PROTOCOL).read_text(encoding="utf-8"))
        if not isinstance(kept, dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        raise GeoClickError(
            f"{output / PROTOCOL} cannot be read ({error}); delete {output} or give another --output."
        ) from error
    return kept


def is_whole(output: Path) -> bool:
    """Whether all predictions are there."""
    return (output / records.PREDICTIONS).is_file()


def answer(
    output: Path,
    parts: Callable[[], Iterable[Part]],
    claims: BinaryIO,
    *,
    batch_size: int,
    ask: Callable[[list[tuple[int, "Sample"]]], list[dict]],
    advance: Callable[[int], None],
) -> None:
    """Answer all parts together with the other processes.

    Process 0 returns when all parts are whole, and does again what one that died has left; the others return when each
    part was claimed by some process.

    Args:
        output: the run folder.
        parts: makes the stream of all parts anew.
        claims: what `join` gave.
        batch_size: samples asked together.
        ask: a batch to its lines, in the same order.
        advance: told how many more answers are there.
    """
    missing: set[int] | None = None
    while missing is None or missing:
        others: dict[int, int] = {}
        for part in parts():
            if missing is not None and part.number not in missing:
                continue
            if not processes.take(claims, 1 + part.number):
                others[part.number] = len(part.samples)
                continue
            _do(output, part, batch_size, ask, advance)
            processes.give_back(claims, 1 + part.number)
        if not processes.is_first():
            return
        missing = set()
        for number, count in others.items():
            processes.wait_for_holder(claims, 1 + number)
            if len(_lines(output, number)) < count:
                missing.add(number)
            else:
                advance(count)


def _do(
    output: Path,
    part: Part,
    batch_size: int,
    ask: Callable[[list[tuple[int, "Sample"]]], list[dict]],
    advance: Callable[[int], None],
) -> None:
    """Answer what a part's file lacks.

    A batch of which a part is there is asked whole, since answers may depend on what is asked together.
    """
    done = {entry["position"] for entry in _lines(output, part.number)}
    # Looked at after the lines: process 0 may have joined and removed them before.
    if is_whole(output):
        return
    advance(len(done))
    if len(done) == len(part.samples):
        return
    _mend(output, part.number)
    for batch in part.batches(batch_size):
        if all(position in done for position, _ in batch):
            continue
        entries = [
            {"position": position} | entry
            for (position, _), entry in zip(batch, ask(batch), strict=True)
            if position not in done
        ]
        with _path(output, part.number).open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))
        advance(len(entries))


def _path(output: Path, number: int) -> Path:
    return output / FOLDER / f"{number:06d}.jsonl"


def _lines(output: Path, number: int) -> list[dict]:
    """What a part's file holds; a last line that a kill cut short is not among it."""
    try:
        content = _path(output, number).read_bytes()
        return [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise GeoClickError(
            f"{_path(output, number)} is broken ({error}); delete it and start the same command again."
        ) from error


def _mend(output: Path, number: int) -> None:
    """Take a last line that a kill cut short off a part's file."""
    path = _path(output, number)
    if path.exists():
        kept = path.read_bytes().rpartition(b"\n")
        with path.open("r+b") as file:
            file.truncate(len(kept[0]) + len(kept[1]))


def count(output: Path) -> int:
    """How many answers an interrupted run has left."""
    return sum(len(_lines(output, int(path.stem))) for path in (output / FOLDER).glob("*.jsonl"))


def finish(output: Path) -> None:
    """Write predictions.jsonl in the dataset's order; the parts are not needed any more."""
    with whole(output / records.PREDICTIONS) as partial, partial.open("w", encoding="utf-8") as file:
        for path in sorted((output / FOLDER).glob("*.jsonl")):
            for entry in sorted(_lines(output, int(path.stem)), key=lambda entry: entry["position"]):
                del entry["position"]
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    clean(output)


def clean(output: Path) -> None:
    """Remove what only an interrupted run needs."""
    shutil.rmtree(output / FOLDER, ignore_errors=True)
