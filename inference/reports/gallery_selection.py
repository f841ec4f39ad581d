"""Which records a gallery shows: one pass indexes the records, and only the selected ones are read again."""

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from geoclick import masks
from geoclick.contradictions import fingerprint
from geoclick.scoring.records import Record


@dataclass(frozen=True)
class RecordIndex:
    """A few numbers of each record.

    Attributes:
        offsets: byte at which each line starts in the file, int64 [N].
        ious: float64 [N].
        targets: whether there is a target, bool [N].
        false_alarms: positions of the first records that have a mask but no target.
        questions: a hash of image and query of each, int64 [N].
    """

    offsets: np.ndarray
    ious: np.ndarray
    targets: np.ndarray
    false_alarms: list[int]
    questions: np.ndarray


def index_records(path: Path, count: int) -> RecordIndex:
    """Read the records once.

    Args:
        path: a complete predictions.jsonl.
        count: largest number of false alarms.
    """
    offsets, ious, targets, questions = array("q"), array("d"), array("b"), array("q")
    false_alarms: list[int] = []
    with path.open("rb") as file:
        offset = 0
        for line in file:
            record: Record = json.loads(line)
            if not record["area"] and len(false_alarms) < count and masks.area(record["mask"]):
                false_alarms.append(len(offsets))
            questions.append(fingerprint(record["image"], record["query"]))
            offsets.append(offset)
            ious.append(record["iou"])
            targets.append(record["area"] > 0)
            offset += len(line)
    return RecordIndex(
        np.array(offsets), np.array(ious), np.array(targets, bool), false_alarms, np.array(questions)
    )


def select(index: RecordIndex, count: int) -> dict[str, list[int]]:
    """Positions of the records that are shown: the best, the median and the worst, and false alarms.

    Best, median and worst are selected among samples with a target. Ties are in the order of the records. Of records
    with the same image and query a group has one.
    """
    with_target = np.flatnonzero(index.targets)
    order = with_target[np.argsort(-index.ious[with_target], kind="stable")].tolist()
    middle = max(0, (len(order) - count) // 2)
    return {
        "Best": _distinct(index, order, count),
        "Median": _distinct(index, order[middle:], count),
        "Worst": _distinct(index, order[::-1], count),
        "False alarms (a mask, but no target)": _distinct(index, index.false_alarms, count),
    }


def _distinct(index: RecordIndex, positions: Sequence[int], count: int) -> list[int]:
    """The first `count` positions of different images or queries."""
    found: dict[int, int] = {}
    for position in positions:
        if len(found) == count:
            break
        found.setdefault(int(index.questions[position]), position)
    return list(found.values())


def read_at(path: Path, offsets: np.ndarray, positions: Sequence[int]) -> Iterator[Record]:
    """The records at some positions; `offsets` are those of the index."""
    with path.open("rb") as file:
        for position in positions:
            file.seek(int(offsets[position]))
            yield json.loads(file.readline())


def read_from(path: Path, offset: int, count: int) -> Iterator[Record]:
    """`count` records that follow one another, from the byte `offset` on."""
    with path.open("rb") as file:
        file.seek(offset)
        yield from map(json.loads, islice(file, count))
