"""The records of two finished evaluations, read in one pass: a few numbers of each pair, and the largest changes."""

import heapq
import json
import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from geoclick import files
from geoclick.errors import GeoClickError
from geoclick.geo.tiles import source
from geoclick.inference.evaluation.results import PARTS
from geoclick.scoring import records
from geoclick.scoring.records import Record

SHARED_KEYS = ("sample_id", "task", "category", "query", "image", "size", "target", "valid")
"""Keys with equal values in both records of a sample."""
NUMBERS = ("iou", "intersection", "union", "boundary_iou")
"""Keys whose values are stored for every record; the columns of a run's numbers."""
READ_ERRORS = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
"""Errors raised by reading files of another kind."""

Change = Callable[[Record, Record], float]
"""How much better the record of B is than that of A."""
ChangedPair = tuple[float, int, Record, Record]
"""Size of the change, minus the position (earlier pairs are larger), the records of A and B."""


@dataclass
class RecordPairs:
    """Both runs, sample by sample.

    Attributes:
        numbers: NUMBERS of every record of A, and of B.
        images: index of every sample's image, in the order of their first samples.
        groups: positions of the samples of each group, by the key of PARTS and the group's name.
        gained: a heap of the samples that improved most from A to B.
        lost: a heap of the samples that deteriorated most, with the size of the change.
    """

    numbers: tuple["array[float]", "array[float]"] = field(default_factory=lambda: (array("d"), array("d")))
    images: "array[int]" = field(default_factory=lambda: array("q"))
    groups: dict[str, dict[str, "array[int]"]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: array("q")))
    )
    gained: list[ChangedPair] = field(default_factory=list)
    lost: list[ChangedPair] = field(default_factory=list)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of A and of B, float64 [N, 4] each."""
        a, b = (np.array(numbers).reshape(-1, len(NUMBERS)) for numbers in self.numbers)
        return a, b


def iou_gain(a: Record, b: Record) -> float:
    """The increase of the IoU."""
    return b["iou"] - a["iou"]


def error_reduction(a: Record, b: Record) -> float:
    """The decrease of the share of wrong pixels, for scores of a complete test set."""
    wrong = [record["union"] - record["intersection"] for record in (a, b)]
    return (wrong[0] - wrong[1]) / (a["size"][0] * a["size"][1])


def read_summary(folder: Path) -> dict[str, Any]:
    """The metrics.json of a run folder; raises GeoClickError if `geoclick evaluate` did not write it."""
    path = folder / "metrics.json"
    files.refuse_special(path)
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(summary[key], dict) for key in ("scores", "protocol")):
            raise TypeError("no scores")
    except FileNotFoundError as error:
        raise _missing(path) from error
    except READ_ERRORS as error:
        raise _foreign(path, error) from error
    return summary


def _missing(path: Path) -> GeoClickError:
    return GeoClickError(
        f"{path.parent} holds no {path.name}; give two folders of a finished 'geoclick evaluate'."
    )


def _foreign(path: Path, error: Exception) -> GeoClickError:
    return GeoClickError(f"{path} was not written by 'geoclick evaluate' ({error!r}); evaluate again.")


def read_pairs(a: Path, b: Path, *, count: int, change: Change) -> RecordPairs:
    """Read the predictions of two run folders at once.

    Args:
        a: a run folder.
        b: another.
        count: how many samples that gained, and that lost, are stored with their records.
        change: by which these are selected.

    Raises:
        GeoClickError: their samples or targets differ, or a file is missing or broken.
    """
    pairs, image_numbers = RecordPairs(), dict[str, int]()
    both = zip_longest(read_predictions(a), read_predictions(b))
    for position, (before, after) in enumerate(both):
        if before is None or after is None:
            fewer, more = (a, b) if before is None else (b, a)
            raise GeoClickError(
                f"{fewer} holds fewer samples than {more}; evaluate both on the same samples."
            )
        check_same_sample(before, after, a, b)
        try:
            gain = _add(pairs, position, before, after, image_numbers, change)
        except READ_ERRORS as error:
            raise GeoClickError(
                f"Sample {position + 1} of {a} or {b} is no record of 'geoclick evaluate' ({error!r}); evaluate again."
            ) from error
        for heap, size in ((pairs.gained, gain), (pairs.lost, -gain)):
            if size > 0 and count:
                push = heapq.heappush if len(heap) < count else heapq.heappushpop
                push(heap, (size, -position, before, after))
    if not image_numbers:
        raise GeoClickError(f"{a} and {b} hold no samples; evaluate again.")
    return pairs


def _add(
    pairs: RecordPairs,
    position: int,
    before: Record,
    after: Record,
    image_numbers: dict[str, int],
    change: Change,
) -> float:
    """Add the numbers of one sample to `pairs`; returns its change."""
    for record, numbers in zip((before, after), pairs.numbers, strict=True):
        numbers.extend(_finite(record[key]) for key in NUMBERS)  # type: ignore[literal-required]
    pairs.images.append(image_numbers.setdefault(source(before["image"]), len(image_numbers)))
    for part, (_, groups_of) in PARTS.items():
        for name in groups_of(before):
            pairs.groups[part][name].append(position)
    return change(before, after)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is not finite")
    return float(value)


def read_predictions(folder: Path) -> Iterator[Record]:
    """The records of a run folder; raises GeoClickError if a line is not a JSON object."""
    path = folder / records.PREDICTIONS
    try:
        for record in records.read(path):
            if not isinstance(record, dict):
                raise TypeError("a line is not a record")
            yield record
    except FileNotFoundError as error:
        raise _missing(path) from error
    except READ_ERRORS as error:
        raise _foreign(path, error) from error


def check_same_sample(before: Record, after: Record, a: Path, b: Path) -> None:
    """Raise GeoClickError unless two records, of the runs `a` and `b`, are of the same sample."""
    key = next((key for key in SHARED_KEYS if before.get(key) != after.get(key)), None)
    if key is None:
        return
    ids = before.get("sample_id"), after.get("sample_id")
    where = f"{ids[0]}" if key != "sample_id" else f"{ids[0]} and {ids[1]}"
    raise GeoClickError(
        f"{a} and {b} differ in the {key} of their samples, first at {where}; evaluate both on the same samples."
    )
