"""How well a mask answers a question: IoU, and the scores of many samples in the modes of published evaluations.

mIoU (gIoU) is the mean of the samples' IoU, oIoU (cIoU) the summed intersection over the summed union, Pr@X the share
of samples with an IoU of X or more. Modes differ in their rules, see modes.py.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from geoclick.errors import GeoClickError
from geoclick.scoring import boundary
from geoclick.scoring.modes import MODES, Mode, mode_named

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Agreement:
    """How well one predicted mask and its target agree, by the rules of a mode.

    Attributes:
        iou: intersection over union, or the value that the mode gives instead.
        intersection: pixels at the size at which the mode scores, as added to the summed intersection.
        union: likewise, as added to the summed union.
        boundary_iou: the IoU of the bands along the outlines, at the same size; see boundary.py.
        answered: whether there is a mask, or a parsed answer without a target.
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
        parsed: whether the model's text could be parsed; if not, an empty mask on an empty target scores 0.

    Raises:
        UsageError: unknown mode.
        GeoClickError: the shapes differ.
    """
    rules = mode_named(mode)
    if prediction.shape != target.shape or (valid is not None and valid.shape != target.shape):
        raise GeoClickError(
            f"A prediction of shape {list(prediction.shape)} cannot be scored on a target of shape "
            f"{list(target.shape)}; predict at the target's size."
        )
    nonempty = bool(prediction.any())
    prediction, target = _at_size(prediction, rules), _at_size(target, rules)
    if valid is not None:
        valid = _at_size(valid, rules)
        prediction, target = prediction & valid, target & valid
    area = int(np.count_nonzero(target))
    answered = nonempty or (parsed and not area)
    if rules.by_answer and not area:
        iou = float(parsed and not nonempty)
        return Agreement(iou, 0, 0, iou, answered)
    intersection = int(np.count_nonzero(prediction & target))
    union = int(np.count_nonzero(prediction)) + area - intersection
    # An answer that cannot be read does not say that there is no target.
    iou = ratio(intersection, union, mode) if union or parsed else 0.0
    inner, outer = boundary.overlap(prediction, target, valid)
    # Masks surrounded by ignored pixels have no outline to compare.
    return Agreement(iou, intersection, union, inner / outer if outer else iou, answered)


@dataclass
class Scores:
    """The running score of many samples: two numbers a sample and a few sums.

    Attributes:
        mode: a key of MODES.
        ious: the IoU of each sample, in the order in which they were counted.
        boundary_ious: likewise.
        intersection: summed pixels.
        union: summed pixels.
        answered: samples that were answered.
    """

    mode: str = "native"
    ious: "array[float]" = field(default_factory=lambda: array("d"))
    boundary_ious: "array[float]" = field(default_factory=lambda: array("d"))
    intersection: int = 0
    union: int = 0
    answered: int = 0

    def __post_init__(self) -> None:
        mode_named(self.mode)

    def count(self, sample: Agreement) -> None:
        """Count one sample."""
        self.ious.append(sample.iou)
        self.boundary_ious.append(sample.boundary_iou)
        self.intersection += sample.intersection
        self.union += sample.union
        self.answered += sample.answered

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
        miou = float(ious.mean())
        # Without any pixel, only the answers that cannot be read are wrong.
        oiou = self.intersection / self.union if self.union else miou
        above = np.greater if rules.strict else np.greater_equal
        total = self.answered if rules.of_answered else len(ious)
        precision = {f"pr@{x}": int(above(ious, x).sum()) / total if total else 0.0 for x in THRESHOLDS}
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
        scores.count(compare(prediction, target, mode))
    return scores.result()


def ratio(intersection: int, union: int, mode: str) -> float:
    """Intersection over union, or the mode's value for an empty union."""
    return intersection / union if union else MODES[mode].empty


def _at_size(mask: np.ndarray, rules: Mode) -> np.ndarray:
    """A mask as bool at the size at which a mode scores."""
    # Values such as 0 and 255 would otherwise be combined bitwise.
    mask = mask.astype(bool, copy=False)
    if rules.side is None:
        return mask
    if rules.letterbox:
        return _long_side(mask, rules.side)
    image = Image.fromarray(mask.view(np.uint8))
    # Pillow's NEAREST, as in RMSIN's and Think2Seg-RS's transforms.
    return np.asarray(image.resize((rules.side, rules.side), Image.Resampling.NEAREST)).view(bool)


def _long_side(mask: np.ndarray, side: int) -> np.ndarray:
    """A mask, bool [H, W], resized so that its long side is `side`, by OpenCV's INTER_NEAREST as SegEarth-R1 does.

    OpenCV takes the pixel at floor(i * old / new), Pillow the one at floor((i + 0.5) * old / new).
    """
    long = max(mask.shape)
    # The order of operations is that of the published code: another one rounds to another size.
    sizes = [side if old == long else max(1, int(old * (side / long))) for old in mask.shape]
    rows, columns = (
        np.minimum(np.floor(np.arange(new) * (1 / (new / old))).astype(int), old - 1)
        for new, old in zip(sizes, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]
