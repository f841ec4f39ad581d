"""Contradictions in training data: rows that ask the same question of the same image and have different targets.

A model that gives one answer to one question cannot be right about all of them. Rows are compared by 64-bit hashes, so
that a row needs 16 bytes of memory.
"""

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from geoclick.errors import GeoClickError
from geoclick.masks import Rle

LIMIT = 0.05
"""Largest share of contradicting rows that is accepted without --allow-contradictions."""

_BLOCK = 256
"""Masks that are compared with all others of their question at once."""


def fingerprint(*parts: object) -> int:
    """A hash of some values, as a signed 64-bit number."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), signed=True)


@dataclass(frozen=True)
class Contradictions:
    """How much of some rows contradicts other rows.

    Attributes:
        rows: number of rows.
        contradicting: number of rows whose question has several targets.
        questions: number of these questions.
    """

    rows: int
    contradicting: int
    questions: int

    @property
    def share(self) -> float:
        """The share of contradicting rows, 0 to 1."""
        return self.contradicting / max(self.rows, 1)

    def __str__(self) -> str:
        questions = "1 question" if self.questions == 1 else f"{self.questions:,} questions"
        return (
            f"{self.contradicting:,} of {self.rows:,} rows ({100 * self.share:.1f} %) contradict others: "
            f"{questions} about an image with several targets"
        )


class QuestionTargets:
    """The question and the target of each row, as hashes."""

    def __init__(self) -> None:
        self._questions, self._targets = array("q"), array("q")

    def add(self, image: str, query: str, target: Rle) -> None:
        """Add one row."""
        self._questions.append(fingerprint(image, query))
        self._targets.append(fingerprint(target["size"], target["counts"]))

    def count(self) -> Contradictions:
        """The contradictions among the rows added so far."""
        return count(np.array(self._questions, np.int64), np.array(self._targets, np.int64))


def contradicting(questions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The rows whose question has several targets, bool [N]; `questions` and `targets` are hashes, int64 [N]."""
    asked = np.unique(np.stack([questions, targets]), axis=1)[0]
    names, numbers = np.unique(asked, return_counts=True)
    return np.isin(questions, names[numbers > 1])


def count(questions: np.ndarray, targets: np.ndarray) -> Contradictions:
    """The contradictions among rows, given as hashes, int64 [N]."""
    rows = contradicting(questions, targets)
    return Contradictions(len(rows), int(np.count_nonzero(rows)), len(np.unique(questions[rows])))


def check(
    contradictions: Contradictions, *, allowed: bool, fix: str = "Ask a different question for each target"
) -> None:
    """Raise GeoClickError, with the fix, if more than LIMIT of the rows contradict others, unless that is allowed."""
    if contradictions.share > LIMIT and not allowed:
        raise GeoClickError(
            f"{contradictions}; at most {100 * LIMIT:g} % are accepted. {fix}, or add --allow-contradictions."
        )


def ceiling(questions: np.ndarray, targets: np.ndarray, masks: Iterable[Rle]) -> float:
    """The mean IoU of a model that answers each question with one mask: the best of the question's own targets.

    A mask that is none of the targets may score slightly higher, such as one between two similar targets. The targets
    of a question are in memory until the last of them is read.

    Args:
        questions: hash of the question of each row, int64 [N].
        targets: hash of the target of each row, int64 [N].
        masks: the valid RLE of the target of each row, [N].
    """
    rows = contradicting(questions, targets)
    numbers: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for question, target in zip(questions[rows].tolist(), targets[rows].tolist(), strict=True):
        numbers[question][target] += 1
    total = float(len(rows) - np.count_nonzero(rows))
    pending: dict[int, dict[int, Rle]] = defaultdict(dict)
    for question, target, mask in zip(questions.tolist(), targets.tolist(), masks, strict=True):
        if question in numbers:
            pending[question][target] = mask
            if len(pending[question]) == len(numbers[question]):
                weights = numbers.pop(question)
                read = pending.pop(question)
                total += _best_sum(list(read.values()), np.array([weights[t] for t in read], float))
    return total / max(len(rows), 1)


def _best_sum(masks: list[Rle], weights: np.ndarray) -> float:
    """The largest weighted sum of the IoUs of one of some different masks with all of them; `weights` is float [K]."""
    from pycocotools import mask as coco

    best = 0.0
    for start in range(0, len(masks), _BLOCK):
        ious = coco.iou(masks[start : start + _BLOCK], masks, [0] * len(masks))
        # The library's IoU of two empty masks is not 1.
        np.fill_diagonal(ious[:, start:], 1.0)
        best = max(best, float((ious @ weights).max()))
    return best
