"""Mask metrics, ours and two published variants that give other numbers on the same masks.

`native` scores at the mask's own size; an empty prediction of an empty target counts 1.0; Pr@X counts IoU >=
X. `rmsin` resizes both masks to 480x480 (nearest); an empty union counts 0.0; Pr@X counts IoU >= X.
`segearth-r1` scores at the mask's own size; an empty union counts 1.0; Pr@X counts IoU > X.

mIoU (giou) is the mean of the samples' IoU; oIoU (ciou) the summed intersection over the summed union.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from geoclick.errors import GeoClickError, UsageError

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Mode:
    """How a published evaluation scores.

    Attributes:
        side: both masks are resized to side x side, or None for their own size.
        empty: the IoU of an empty union.
        strict: whether Pr@X counts IoU > X instead of >=.
    """

    side: int | None
    empty: float
    strict: bool


MODES = {
    "native": Mode(side=None, empty=1.0, strict=False),
    "rmsin": Mode(side=480, empty=0.0, strict=False),
    "segearth-r1": Mode(side=None, empty=1.0, strict=True),
}


@dataclass
class Scores:
    """The running score of many samples, in constant memory but for one number a sample.

    Attributes:
        mode: a key of MODES.
        ious: the IoU of each sample, in the order of `add`.
    """

    mode: str = "native"
    ious: list[float] = field(default_factory=list)
    intersection: int = 0
    union: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"Unknown score mode {self.mode!r}; choose one of {', '.join(MODES)}.")

    def add(self, prediction: np.ndarray, target: np.ndarray, valid: np.ndarray | None = None) -> float:
        """Count one sample and return its IoU.

        Args:
            prediction: bool [H, W].
            target: bool [H, W].
            valid: bool [H, W], False where pixels are ignored; None counts all.

        Raises:
            GeoClickError: the shapes differ.
        """
        intersection, union = _overlap(prediction, target, valid, MODES[self.mode].side)
        self.intersection += intersection
        self.union += union
        self.ious.append(_ratio(intersection, union, self.mode))
        return self.ious[-1]

    def merge(self, other: "Scores") -> None:
        """Count the samples of another part of the set after these."""
        if other.mode != self.mode:
            raise GeoClickError(f"Scores of modes {self.mode} and {other.mode} do not add; use one mode.")
        self.ious += other.ious
        self.intersection += other.intersection
        self.union += other.union

    def result(self) -> dict[str, float | int]:
        """`miou`, `oiou`, `pr@0.5` to `pr@0.9`, `n` and the aliases `giou` and `ciou`; fractions of 1.

        Raises:
            GeoClickError: there is no sample.
        """
        if not self.ious:
            raise GeoClickError("There is nothing to score; give at least one sample.")
        ious = np.array(self.ious)
        miou, oiou = float(ious.mean()), _ratio(self.intersection, self.union, self.mode)
        over = np.greater if MODES[self.mode].strict else np.greater_equal
        precision = {f"pr@{x}": float(over(ious, x).mean()) for x in THRESHOLDS}
        return {"miou": miou, "oiou": oiou, **precision, "n": len(ious), "giou": miou, "ciou": oiou}


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


def sample_iou(
    prediction: np.ndarray, target: np.ndarray, mode: str = "native", valid: np.ndarray | None = None
) -> float:
    """The IoU of one sample, arguments as in `Scores.add`."""
    return Scores(mode).add(prediction, target, valid)


def bootstrap_interval(
    values: Sequence[float], seed: int = 0, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval (low, high) of the mean of one value a sample.

    The same values, seed and numpy version give the same interval.

    Raises:
        GeoClickError: there are no values.
    """
    if len(values) == 0:
        raise GeoClickError("An interval needs at least one value; score some samples first.")
    array = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = [array[rng.integers(len(array), size=len(array))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _overlap(
    prediction: np.ndarray, target: np.ndarray, valid: np.ndarray | None, side: int | None
) -> tuple[int, int]:
    """The pixels of intersection and union."""
    if prediction.shape != target.shape or (valid is not None and valid.shape != target.shape):
        raise GeoClickError(
            f"A prediction of shape {list(prediction.shape)} cannot be scored on a target of shape "
            f"{list(target.shape)}; predict at the target's size."
        )
    # Numbers such as 0 and 255 would otherwise be combined bit by bit.
    prediction, target = prediction.astype(bool, copy=False), target.astype(bool, copy=False)
    if side is not None:
        prediction, target = _nearest(prediction, side), _nearest(target, side)
        valid = None if valid is None else _nearest(valid, side)
    intersection, union = prediction & target, prediction | target
    if valid is not None:
        intersection, union = intersection & valid, union & valid
    return int(np.count_nonzero(intersection)), int(np.count_nonzero(union))


def _nearest(mask: np.ndarray, side: int) -> np.ndarray:
    """A mask resized to side x side by Pillow's NEAREST, as RMSIN's transforms do."""
    image = Image.fromarray(mask.astype(np.uint8))
    return np.asarray(image.resize((side, side), Image.Resampling.NEAREST)).astype(bool)


def _ratio(intersection: int, union: int, mode: str) -> float:
    return intersection / union if union else MODES[mode].empty
