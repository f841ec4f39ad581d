"""The records of two finished evaluations side by side: one pass keeps some numbers of each and the largest changes."""

import heapq
import json
import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from geoclick.errors import GeoClickError
from geoclick.inference.evaluation.results import PARTS
from geoclick.scoring import records

SAME = ("sample_id", "task", "category", "query", "image", "size", "target", "valid")
"""What two records of one sample share."""
NUMBERS = ("iou", "intersection", "union", "boundary_iou")
"""What is kept of every record; the columns of a run's numbers."""
FAULTS = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
"""What files that are not those of an evaluation raise."""

Change = Callable[[Mapping[str, Any], Mapping[str, Any]], float]
"""How much better the record of B is than that of A."""


@dataclass
class Pairs:
    """Both runs, sample by sample.

    Attributes:
        numbers: NUMBERS of every record of A, and of B.
        images: the number of every sample's image, in the order of their first samples.
        groups: positions of the samples of a group, by a key of PARTS and its name.
        gained: the samples that changed most for the better: change, minus the position, the records of A and B.
        lost: those that changed most for the worse, the change without its sign.
    """

    numbers: tuple[array, array] = field(default_factory=lambda: (array("d"), array("d")))
    images: array = field(default_factory=lambda: array("q"))
    groups: dict[str, dict[str, array]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: array("q")))
    )
    gained: list[tuple[float, int, dict, dict]] = field(default_factory=list)
    lost: list[tuple[float, int, dict, dict]] = field(default_factory=list)

    def both(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of A and of B, float64 [N, 4] each."""
        a, b = (np.array(part).reshape(-1, len(NUMBERS)) for part in self.numbers)
        return a, b


def higher_iou(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """By how much the IoU rose."""
    return b["iou"] - a["iou"]


def fewer_wrong(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """By how much the share of wrong pixels fell, which is what the score of a whole set is made of."""
    wrong = [record["union"] - record["intersection"] for record in (a, b)]
    return (wrong[0] - wrong[1]) / (a["size"][0] * a["size"][1])


def read_summary(folder: Path) -> dict:
    """What metrics.json of a run folder holds; raises GeoClickError where there is none of `geoclick evaluate`."""
    path = folder / "metrics.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(summary[key], dict) for key in ("scores", "protocol")):
            raise TypeError("no scores")
    except FileNotFoundError as error:
        raise GeoClickError(
            f"{folder} holds no metrics.json; give two folders of a finished 'geoclick evaluate'."
        ) from error
    except FAULTS as error:
        raise GeoClickError(f"{path} is none of 'geoclick evaluate' ({error!r}); evaluate again.") from error
    return summary


def gather(a: Path, b: Path, *, count: int, change: Change) -> Pairs:
    """Read the predictions of two run folders at once.

    Args:
        a: a run folder.
        b: another.
        count: how many samples that gained, and that lost, are kept whole.
        change: by which these are chosen.

    Raises:
        GeoClickError: their samples or targets differ, or a file is missing or broken.
    """
    pairs, seen = Pairs(), {}
    for position, (one, other) in enumerate(zip_longest(*(read_predictions(folder) for folder in (a, b)))):
        check_same(one, other, a, b)
        try:
            for record, numbers in zip((one, other), pairs.numbers, strict=True):
                numbers.extend(_finite(record[key]) for key in NUMBERS)
            pairs.images.append(seen.setdefault(one["image"], len(seen)))
            for part, (_, group_of) in PARTS.items():
                if name := group_of(one):
                    pairs.groups[part][name].append(position)
            changed = change(one, other)
        except FAULTS as error:
            raise GeoClickError(
                f"Sample {position + 1} of {a} or {b} is no record of 'geoclick evaluate' ({error!r}); evaluate again."
            ) from error
        for heap, gain in ((pairs.gained, changed), (pairs.lost, -changed)):
            if gain > 0 and count:
                keep = heapq.heappush if len(heap) < count else heapq.heappushpop
                keep(heap, (gain, -position, one, other))
    if not seen:
        raise GeoClickError(f"{a} and {b} hold no samples; evaluate again.")
    return pairs


def _finite(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def read_predictions(folder: Path) -> Iterator[dict]:
    """The records of a run folder; raises GeoClickError where a line is no JSON object."""
    path = folder / records.PREDICTIONS
    try:
        for record in records.read(path):
            if not isinstance(record, dict):
                raise TypeError("a line is no record")
            yield record
    except FileNotFoundError as error:
        raise GeoClickError(
            f"{folder} holds no {path.name}; give two folders of a finished 'geoclick evaluate'."
        ) from error
    except FAULTS as error:
        raise GeoClickError(f"{path} is none of 'geoclick evaluate' ({error!r}); evaluate again.") from error


def check_same(one: dict | None, other: dict | None, a: Path, b: Path) -> None:
    """Raise GeoClickError unless two records, of A and of B, are of one sample; None is the end of a file."""
    if one is None or other is None:
        fewer, more = (a, b) if one is None else (b, a)
        raise GeoClickError(f"{fewer} holds fewer samples than {more}; evaluate both on the same samples.")
    key = next((key for key in SAME if one.get(key) != other.get(key)), None)
    if key is not None:
        where = f"{one.get('sample_id')}" if key != "sample_id" else f"{one.get(key)} and {other.get(key)}"
        raise GeoClickError(
            f"{a} and {b} differ in the {key} of their samples, first at {where}; evaluate both on the same samples."
        )
