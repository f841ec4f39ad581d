"""How well a mask answers a question: IoU as this project and as published evaluations count it.

Masks differ little between evaluations, rules do: MODES holds them. mIoU (gIoU) is the mean of the samples' IoU, oIoU
(cIoU) the summed intersection over the summed union, Pr@X the share of samples with an IoU of X or more.

What the published code does, read there:

- rmsin (test.py of RMSIN): image and target are resized to 480x480, the target by nearest; an empty union counts 0.
- segearth-r1 (eval.py of SegEarth-R1): at the mask's size; an empty union counts 1; Pr@X wants more than X; of several
  questions the first. It adds 1e-5 to every union, which is left out here.
- think2seg (src/eval and geo_reward_func_ultra.py of Think2Seg-RS): image and target are resized to 840x840, the target
  by nearest; of several questions one at random, seed 0. Where there is no target, an answer that names nothing counts
  1, a text that cannot be parsed 0 like any other, and no pixel of a false alarm joins the summed union. Pr@X is a
  share of the answered samples only: those with a mask, or with a parsed answer where there is no target. Ours is close
  but not the same in two things: questions are drawn by sample, theirs in the order in which the disk lists files; and
  a mask is made at the image's size and resized, theirs is made on the resized image. That an answer whose clicks give
  an empty mask counts as naming nothing is assumed.
- semantic (mmsegmentation's IoUMetric, which SegEarth-OV uses): pixels of whole sets, see semantic_scores.py.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from geoclick.errors import GeoClickError, UsageError
from geoclick.scoring import boundary

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How a published evaluation scores.

    Attributes:
        side: both masks are resized to side x side, or None for their own size.
        empty: the IoU of an empty union.
        strict: whether Pr@X counts IoU > X instead of >=.
        by_answer: whether a sample without target is scored by its answer alone, outside of the summed union.
        of_answered: whether Pr@X is a share of the answered samples only.
        question: which of several questions about a target are asked; None leaves it open.
    """

    side: int | None = None
    empty: float = 1.0
    strict: bool = False
    by_answer: bool = False
    of_answered: bool = False
    question: str | None = None


MODES = {
    "native": Mode(),
    "rmsin": Mode(side=480, empty=0.0),
    "segearth-r1": Mode(strict=True, question="first"),
    "think2seg": Mode(side=840, empty=0.0, by_answer=True, of_answered=True, question="random"),
    "semantic": Mode(),
}


@dataclass(frozen=True)
class Agreement:
    """How far one predicted mask and its target agree, by the rules of a mode.

    Attributes:
        iou: intersection over union, or what the mode counts in its place.
        intersection: pixels at the size at which the mode scores; what joins the summed intersection.
        union: likewise.
        boundary_iou: the IoU of the bands along the outlines, at the same size; see boundary.py.
        answered: whether there is a mask, or a parsed answer where there is no target.
    """

    iou: float
    intersection: int
    union: int
    boundary_iou: float
    answered: bool = True


def compare(
    prediction: np.ndarray,
    target: np.ndarray,
    mode: str = "native",
    valid: np.ndarray | None = None,
    *,
    parsed: bool = True,
) -> Agreement:
    """Compare a mask with its target.

    Args:
        prediction: bool [H, W], or numbers with non-zero as mask.
        target: likewise.
        mode: a key of MODES.
        valid: bool [H, W], False where pixels are ignored; None counts all.
        parsed: whether the model's text could be read; False where it was not, and the empty mask is no answer.

    Raises:
        UsageError: unknown mode.
        GeoClickError: the shapes differ.
    """
    rules = rules_of(mode)
    if prediction.shape != target.shape or (valid is not None and valid.shape != target.shape):
        raise GeoClickError(
            f"A prediction of shape {list(prediction.shape)} cannot be scored on a target of shape "
            f"{list(target.shape)}; predict at the target's size."
        )
    named = bool(prediction.any())
    prediction, target, valid = (
        None if mask is None else _at_size(mask, rules.side) for mask in (prediction, target, valid)
    )
    if valid is not None:
        prediction, target = prediction & valid, target & valid
    wanted = int(np.count_nonzero(target))
    answered = named or (parsed and not wanted)
    if rules.by_answer and not wanted:
        iou = float(parsed and not named)
        return Agreement(iou, 0, 0, iou, answered)
    intersection = int(np.count_nonzero(prediction & target))
    union = int(np.count_nonzero(prediction)) + wanted - intersection
    iou = ratio(intersection, union, mode)
    inner, outer = boundary.overlap(prediction, target, valid)
    # Masks that touch nothing but ignored pixels have no outline to compare.
    return Agreement(iou, intersection, union, inner / outer if outer else iou, answered)


def sample_iou(
    prediction: np.ndarray, target: np.ndarray, mode: str = "native", valid: np.ndarray | None = None
) -> float:
    """The IoU of one sample, arguments as in `compare`."""
    return compare(prediction, target, mode, valid).iou


@dataclass
class Scores:
    """The running score of many samples: two numbers a sample and a few sums, so that parts of a set can be merged.

    Attributes:
        mode: a key of MODES.
        ious: the IoU of each sample, in the order in which they were counted.
        boundary_ious: likewise.
        intersection: summed pixels.
        union: summed pixels.
        answered: samples that were answered.
    """

    mode: str = "native"
    ious: array = field(default_factory=lambda: array("d"))
    boundary_ious: array = field(default_factory=lambda: array("d"))
    intersection: int = 0
    union: int = 0
    answered: int = 0

    def __post_init__(self) -> None:
        rules_of(self.mode)

    def count(self, sample: Agreement) -> None:
        """Count one sample."""
        self.ious.append(sample.iou)
        self.boundary_ious.append(sample.boundary_iou)
        self.intersection += sample.intersection
        self.union += sample.union
        self.answered += sample.answered

    def add(self, prediction: np.ndarray, target: np.ndarray, valid: np.ndarray | None = None) -> float:
        """Compare one sample, arguments as in `compare`, count it and return its IoU."""
        sample = compare(prediction, target, self.mode, valid)
        self.count(sample)
        return sample.iou

    def merge(self, other: "Scores") -> None:
        """Count the samples of another part of the set after these."""
        if other.mode != self.mode:
            raise GeoClickError(f"Scores of modes {self.mode} and {other.mode} do not add; use one mode.")
        self.ious += other.ious
        self.boundary_ious += other.boundary_ious
        self.intersection += other.intersection
        self.union += other.union
        self.answered += other.answered

    def result(self) -> dict[str, float | int]:
        """The score of all samples, fractions of 1.

        Returns:
            `miou`, `oiou`, `pr@0.5` to `pr@0.9`, `n`, the aliases `giou` and `ciou`, `boundary_iou` (the mean).

        Raises:
            GeoClickError: there is no sample.
        """
        if not self.ious:
            raise GeoClickError("There is nothing to score; give at least one sample.")
        rules, ious = MODES[self.mode], np.array(self.ious)
        miou, oiou = float(ious.mean()), ratio(self.intersection, self.union, self.mode)
        over = np.greater if rules.strict else np.greater_equal
        among = self.answered if rules.of_answered else len(ious)
        precision = {f"pr@{x}": int(over(ious, x).sum()) / among if among else 0.0 for x in THRESHOLDS}
        return {
            "miou": miou,
            "oiou": oiou,
            **precision,
            "n": len(ious),
            "giou": miou,
            "ciou": oiou,
            "boundary_iou": float(np.mean(self.boundary_ious)),
        }


def score(
    predictions: Sequence[np.ndarray], targets: Sequence[np.ndarray], mode: str = "native"
) -> dict[str, float | int]:
    """The metrics of predicted masks, as `Scores.result` names them.

    Args:
        predictions: bool [H, W] each.
        targets: bool [H, W] each, of its prediction's shape.
        mode: a key of MODES.

    Raises:
        UsageError: unknown mode.
        GeoClickError: no masks, or their numbers or shapes differ.
    """
    scores = Scores(mode)
    if len(predictions) != len(targets):
        raise GeoClickError(
            f"{len(predictions)} predictions do not match {len(targets)} targets; give one for each."
        )
    for prediction, target in zip(predictions, targets, strict=True):
        scores.add(prediction, target)
    return scores.result()


def rules_of(mode: str) -> Mode:
    """The rules of a mode; raises UsageError for an unknown one."""
    if mode not in MODES:
        raise UsageError(f"Unknown score mode {mode!r}; choose one of {', '.join(MODES)}.")
    return MODES[mode]


def ratio(intersection: int, union: int, mode: str) -> float:
    """Intersection over union, and what the mode counts for an empty union."""
    return intersection / union if union else MODES[mode].empty


def _at_size(mask: np.ndarray, side: int | None) -> np.ndarray:
    """A mask as bool, resized to side x side by Pillow's NEAREST, as RMSIN's and Think2Seg-RS's transforms do."""
    # Numbers such as 0 and 255 would otherwise be combined bit by bit.
    mask = mask.astype(bool, copy=False)
    if side is None:
        return mask
    image = Image.fromarray(mask.view(np.uint8))
    return np.asarray(image.resize((side, side), Image.Resampling.NEAREST)).view(bool)
