"""How well the scores of predictions order them: from a score alone, which masks are good?"""

from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np

from geoclick.scoring.records import Record

SCORES = ("score", "probability", "agreement", "confidence")
"""Fields of a record: the segmenter's predicted IoU, the tokens' probability, the agreement of votes, all together."""


class Ranking(TypedDict):
    """How well a score orders samples by their IoU.

    Attributes:
        n: samples with this score.
        spearman: rank correlation of score and IoU; None if one of them is constant.
        aurc: area under the risk-coverage curve (arXiv 1705.08500): the mean over all k of the mean of 1 - IoU of the
            k samples with the highest scores.
        random_aurc: that of a random order, the mean of 1 - IoU.
        best_aurc: that of the order by IoU.
    """

    n: int
    spearman: float | None
    aurc: float
    random_aurc: float
    best_aurc: float


@dataclass
class Rankings:
    """The scores and IoUs of samples, by the name of the score."""

    values: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def count(self, record: Record) -> None:
        """Add the scores of one record."""
        scores = {
            "score": record.get("score"),
            "probability": record.get("probability"),
            "agreement": record.get("agreement"),
            "confidence": record.get("confidence"),
        }
        for name, value in scores.items():
            if value is not None:
                self.values.setdefault(name, []).append((value, record["iou"]))

    def result(self) -> dict[str, Ranking]:
        """The ranking by each score that at least two samples have."""
        return {
            name: ranking(*zip(*self.values[name], strict=True))
            for name in SCORES
            if len(self.values.get(name, ())) > 1
        }


def ranking(scores: "tuple[float, ...]", ious: "tuple[float, ...]") -> Ranking:
    """How well scores order samples by their IoU; equal scores are in random order, whose mean is taken."""
    given, risks = np.array(scores), 1 - np.array(ious)
    constant = np.ptp(given) == 0 or np.ptp(risks) == 0
    return {
        "n": len(given),
        "spearman": None if constant else float(np.corrcoef(ranks(given), ranks(-risks))[0, 1]),
        "aurc": aurc(given, risks),
        "random_aurc": float(risks.mean()),
        "best_aurc": aurc(-risks, risks),
    }


def ranks(values: np.ndarray) -> np.ndarray:
    """The ranks of values, float [N]; equal ones share the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[group]


def aurc(scores: np.ndarray, risks: np.ndarray) -> float:
    """The area under the risk-coverage curve; each sample has the mean risk of those with an equal score.

    Args:
        scores: float [N].
        risks: float [N].
    """
    _, group = np.unique(-scores, return_inverse=True)
    means = np.bincount(group, risks) / np.bincount(group)
    ordered = np.sort(group)
    return float((means[ordered].cumsum() / np.arange(1, len(risks) + 1)).mean())
