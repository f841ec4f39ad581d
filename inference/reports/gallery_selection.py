"""Which records a page shows: one pass keeps a few numbers of each, and only the chosen ones are read again."""

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoclick import masks


@dataclass(frozen=True)
class Survey:
    """What one pass over the records keeps: a few numbers of each.

    Attributes:
        offsets: where each line begins in the file, int64 [N].
        ious: float64 [N].
        targets: whether there is a target, bool [N].
        alarms: positions of the first records with a mask where no target is.
    """

    offsets: np.ndarray
    ious: np.ndarray
    targets: np.ndarray
    alarms: list[int]


def survey(path: Path, count: int) -> Survey:
    """Read the records once.

    Args:
        path: predictions.jsonl, whole.
        count: false alarms to find.
    """
    offsets, ious, targets, alarms = array("q"), array("d"), array("b"), []
    with path.open("rb") as file:
        offset = 0
        for line in file:
            record = json.loads(line)
            if not record["area"] and len(alarms) < count and masks.area(record["mask"]):
                alarms.append(len(offsets))
            offsets.append(offset)
            ious.append(record["iou"])
            targets.append(record["area"] > 0)
            offset += len(line)
    return Survey(np.array(offsets), np.array(ious), np.array(targets, bool), alarms)


def choose(found: Survey, count: int) -> dict[str, list[int]]:
    """Which records the gallery shows, as positions: the best, the median and the worst, then false alarms.

    Best to worst are chosen among samples with a target, where an IoU says something; a false alarm is a
    sample without one for which a mask came. Ties go by the order of the records.
    """
    with_target = np.flatnonzero(found.targets)
    order = with_target[np.argsort(-found.ious[with_target], kind="stable")].tolist()
    middle = max(0, (len(order) - count) // 2)
    return {
        "Best": order[:count],
        "Median": order[middle : middle + count],
        "Worst": order[::-1][:count],
        "False alarms (nothing to find, yet a mask)": found.alarms[:count],
    }


def pick(path: Path, offsets: np.ndarray, positions: Sequence[int]) -> Iterator[dict]:
    """The records at some positions, read where their lines begin."""
    with path.open("rb") as file:
        for position in positions:
            file.seek(int(offsets[position]))
            yield json.loads(file.readline())
