"""Significance of the difference between two runs: a paired bootstrap and a paired permutation test.

A unit is what was sampled independently: an image with all its samples. Each unit has K numbers in either run, and a
score is a function of their sums. So the mean IoU, the IoU of summed pixels and its mean over classes are tested in the
same way.
"""

from collections.abc import Callable
from typing import TypedDict

import numpy as np

from geoclick.scoring.intervals import LEVEL, resampled_sums

PERMUTATIONS = 9999
"""Random exchanges of the runs; the smallest p-value is 1 / (PERMUTATIONS + 1)."""
MAX_SIGNS = 1 << 20
"""Signs in memory at once."""

Score = Callable[[np.ndarray], np.ndarray]
"""Sums [R, K] to scores [R]; NaN where a score is undefined."""


class Difference(TypedDict):
    """The scores of two runs, B minus A, and the ends of its 95 % interval; None where a score is undefined."""

    a: float | None
    b: float | None
    difference: float | None
    interval: list[float] | None


def difference(a: np.ndarray, b: np.ndarray, score: Score, seed: int) -> Difference:
    """The difference of two runs with the 95 % interval of a paired bootstrap over units.

    Args:
        a: numbers of run A, [N, K].
        b: numbers of run B for the same units in the same order.
        score: of sums over units.
        seed: of the resamples.
    """
    before, after = (float(score(numbers.sum(axis=0, keepdims=True))[0]) for numbers in (a, b))
    sums = resampled_sums(np.hstack([a, b]), seed)
    differences = score(sums[:, a.shape[1] :]) - score(sums[:, : a.shape[1]])
    differences = differences[~np.isnan(differences)]
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return {
        "a": _defined(before),
        "b": _defined(after),
        "difference": _defined(after - before),
        "interval": np.quantile(differences, ends).tolist() if len(differences) else None,
    }


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value


def p_value(a: np.ndarray, b: np.ndarray, score: Score, seed: int) -> float | None:
    """The p-value of a two-sided permutation test; None where a score is undefined.

    Under the null hypothesis the numbers of a unit may be exchanged between the runs. For a mean that flips the signs
    of the units' differences. Arguments as in `difference`.
    """
    observed = float((score(b.sum(axis=0, keepdims=True)) - score(a.sum(axis=0, keepdims=True)))[0])
    if np.isnan(observed):
        return None
    rng, total, halves = np.random.default_rng(seed), (a + b).sum(axis=0), (b - a) / 2
    at_once, extreme = max(1, MAX_SIGNS // len(a)), 0
    for start in range(0, PERMUTATIONS, at_once):
        shape = (min(at_once, PERMUTATIONS - start), len(a))
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-shape[0] * shape[1] // 8)), np.uint8))
        signs = 2.0 * bits[: shape[0] * shape[1]].reshape(shape) - 1
        shifts = signs @ halves
        permuted = score(total / 2 + shifts) - score(total / 2 - shifts)
        # The order of summation changes the last digits.
        extreme += int(np.count_nonzero(np.abs(permuted) >= abs(observed) - 1e-12))
    return (1 + extreme) / (1 + PERMUTATIONS)


def mean(sums: np.ndarray) -> np.ndarray:
    """The mean over samples: the first column, sums of values, over the second, numbers of samples."""
    return np.asarray(sums[:, 0] / sums[:, 1])


def mean_ratio(sums: np.ndarray) -> np.ndarray:
    """The mean over classes of intersection (first half of the columns) over union (second half).

    Classes without union are left out; NaN where no class has one. With two columns it is the IoU of summed pixels.
    """
    intersections, unions = np.hsplit(sums, 2)
    defined = unions > 0
    ratios = np.divide(intersections, unions, out=np.zeros_like(unions, dtype=np.float64), where=defined)
    count = defined.sum(axis=1)
    return np.divide(ratios.sum(axis=1), count, out=np.full(len(sums), np.nan), where=count > 0)
