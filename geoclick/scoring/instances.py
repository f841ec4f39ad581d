"""How many instances of targets with several parts are found.

The true instances are those that the sample lists, such as the objects of a procedural scene. Where it lists none, they
are the parts of the target as `components.cut` makes them by its defaults, of any number: 8-connected components, near
ones as one part, those below 16 pixels left out. Touching objects are then one instance.

The predicted instances are the parts of the answer, each a prompt of its own. Of an answer of one part, or of a mask
without an answer, they are the parts of the mask by the same cut.

Pixels that are not scored count in neither, and instances without other pixels are left out. Predicted and true
instances are matched one to one, so that as many pairs as possible have an IoU of 0.5 or more (the assignment of
scipy). Samples with fewer than two true instances are not counted, nor those of class maps (task `semantic`), whose
targets are no objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from geoclick.components import cut
from geoclick.instances import Instance, of_mask
from geoclick.scoring.records import InstanceCounts

IOU = 0.5
"""Smallest IoU of a match."""


class Instances(TypedDict):
    """The content of `instances` in metrics.json.

    Attributes:
        n: samples with several true instances.
        true: their true instances.
        predicted: their predicted ones.
        matched: pairs of both.
        precision: matched by predicted; None without any.
        recall: matched by true.
        f1: of both, 2 matched by predicted and true.
        count_right: share of samples with as many predicted instances as true ones.
    """

    n: int
    true: int
    predicted: int
    matched: int
    precision: float | None
    recall: float
    f1: float
    count_right: float


def compare(
    answer: Sequence[Instance],
    prediction: np.ndarray,
    target: np.ndarray,
    listed: Sequence[np.ndarray] = (),
    valid: np.ndarray | None = None,
) -> InstanceCounts | None:
    """Count the instances of a sample and the matches; None if the target has fewer than two.

    Args:
        answer: of several parts; empty takes the parts of `prediction`.
        prediction: bool [H, W].
        target: bool [H, W].
        listed: true instances of the sample, bool [H, W] each; empty takes the parts of `target`.
        valid: the pixels that are scored, bool [H, W]; None for all.
    """
    true = _scored([of_mask((), one) for one in listed], valid) if listed else _parts(target, valid)
    if len(true) < 2:
        return None
    predicted = _scored(answer, valid) if answer else _parts(prediction, valid)
    return {"true": len(true), "predicted": len(predicted), "matched": matches(predicted, true)}


def _scored(instances: Sequence[Instance], valid: np.ndarray | None) -> list[Instance]:
    """The instances that have scored pixels, without the others."""
    scored = instances if valid is None else [one.within(valid) for one in instances]
    return [one for one in scored if one.area]


def _parts(mask: np.ndarray, valid: np.ndarray | None) -> list[Instance]:
    """The parts of a mask, bool [H, W]."""
    counted = mask if valid is None else mask & valid
    return [of_mask((), part) for part in cut(counted, most=None).parts] if counted.any() else []


def matches(predicted: Sequence[Instance], true: Sequence[Instance]) -> int:
    """The largest number of pairs, one to one, with an IoU of at least IOU."""
    from scipy.optimize import linear_sum_assignment

    near = np.array([[iou(one, other) >= IOU for other in true] for one in predicted]).reshape(-1, len(true))
    return int(near[linear_sum_assignment(near, maximize=True)].sum())


def iou(one: Instance, other: Instance) -> float:
    """Intersection over union of two instances of an image; 0.0 if both have no pixel."""
    top, left = max(one.row, other.row), max(one.column, other.column)
    bottom, right = (
        min(start + length for start, length in ends)
        for ends in (
            [(i.row, i.mask.shape[0]) for i in (one, other)],
            [(i.column, i.mask.shape[1]) for i in (one, other)],
        )
    )
    if bottom <= top or right <= left:
        return 0.0
    shared = [i.mask[top - i.row : bottom - i.row, left - i.column : right - i.column] for i in (one, other)]
    intersection = int(np.count_nonzero(shared[0] & shared[1]))
    union = one.area + other.area - intersection
    return intersection / union if union else 0.0


@dataclass
class InstanceScores:
    """The sums over samples with several true instances."""

    n: int = 0
    true: int = 0
    predicted: int = 0
    matched: int = 0
    right: int = 0

    def count(self, sample: InstanceCounts) -> None:
        """Count one sample."""
        self.n += 1
        self.true += sample["true"]
        self.predicted += sample["predicted"]
        self.matched += sample["matched"]
        self.right += sample["true"] == sample["predicted"]

    def result(self) -> Instances | None:
        """The scores; None without samples."""
        if not self.n:
            return None
        return {
            "n": self.n,
            "true": self.true,
            "predicted": self.predicted,
            "matched": self.matched,
            "precision": self.matched / self.predicted if self.predicted else None,
            "recall": self.matched / self.true,
            "f1": 2 * self.matched / (self.true + self.predicted),
            "count_right": self.right / self.n,
        }


def text(found: Instances) -> str:
    """The scores in one line."""
    precision = "-" if found["precision"] is None else f"{found['precision']:.3f}"
    return (
        f"instances of {found['n']} targets with several parts: F1 {found['f1']:.3f} (precision {precision}, "
        f"recall {found['recall']:.3f}), count right in {found['count_right']:.1%}"
    )
