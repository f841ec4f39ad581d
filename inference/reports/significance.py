"""Tests of the difference between two runs over the same units: a paired bootstrap and a sign-flip permutation.

A unit is what was drawn at random into the set: a sample, or an image where only a whole set has a score. Each gives K
numbers in either run, and a score is a function of their sums, so that a mean of IoU, an IoU of summed pixels and a
mean of these over classes are all tested alike.
"""

from collections.abc import Callable

import numpy as np

from geoclick.scoring.intervals import LEVEL, resampled_sums

FLIPS = 9999
"""Random exchanges of the runs; the least p-value is 1 over one more."""
AT_ONCE = 1 << 20
"""Most signs that are held at once."""

Score = Callable[[np.ndarray], np.ndarray]
"""Sums [R, K] to scores [R]; NaN where sums have none."""


def difference(a: np.ndarray, b: np.ndarray, score: Score, seed: int) -> dict:
    """The scores of two runs, and B less A with the 95 % interval of a paired bootstrap over units.

    Args:
        a: numbers of run A, [N, K].
        b: numbers of run B for the same units in the same order.
        score: of sums over units.
        seed: of the resamples.

    Returns:
        `a`, `b`, `difference` and `interval` [low, high], each None where a score is NaN.
    """
    scores = [float(score(part.sum(axis=0, keepdims=True))[0]) for part in (a, b)]
    drawn = resampled_sums(np.hstack([a, b]), seed)
    found = score(drawn[:, a.shape[1] :]) - score(drawn[:, : a.shape[1]])
    found = found[~np.isnan(found)]
    ends = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist() if len(found) else None
    told = {"a": scores[0], "b": scores[1], "difference": scores[1] - scores[0]}
    return {key: None if np.isnan(value) else value for key, value in told.items()} | {"interval": ends}


def p_value(a: np.ndarray, b: np.ndarray, score: Score, seed: int) -> float | None:
    """How often runs that differ by chance alone would differ this much: a two-sided permutation test.

    If it is all one which run a unit's numbers come from, they may be exchanged, unit by unit, at random; for a mean
    that flips the signs of the units' differences. Arguments as in `difference`; None where a score is NaN.
    """
    observed = float((score(b.sum(axis=0, keepdims=True)) - score(a.sum(axis=0, keepdims=True)))[0])
    if np.isnan(observed):
        return None
    rng, total, halves = np.random.default_rng(seed), (a + b).sum(axis=0), (b - a) / 2
    at_once, extreme = max(1, AT_ONCE // len(a)), 0
    for start in range(0, FLIPS, at_once):
        shape = (min(at_once, FLIPS - start), len(a))
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-shape[0] * shape[1] // 8)), np.uint8))
        signs = 2.0 * bits[: shape[0] * shape[1]].reshape(shape) - 1
        moved = signs @ halves
        found = score(total / 2 + moved) - score(total / 2 - moved)
        # Sums in another order differ in their last digits.
        extreme += int(np.count_nonzero(np.abs(found) >= abs(observed) - 1e-12))
    return (1 + extreme) / (1 + FLIPS)


def mean(count: int) -> Score:
    """The mean of the only column, over `count` units."""
    return lambda sums: sums[:, 0] / count


def mean_ratio(sums: np.ndarray) -> np.ndarray:
    """The mean over classes of intersection (first half of the columns) over union (second half).

    Classes without union are left out; NaN where no class has one. Of two columns it is the IoU of summed pixels.
    """
    intersections, unions = np.hsplit(sums, 2)
    there = unions > 0
    ratios = np.divide(intersections, unions, out=np.zeros_like(unions, dtype=np.float64), where=there)
    count = there.sum(axis=1)
    return np.divide(ratios.sum(axis=1), count, out=np.full(len(sums), np.nan), where=count > 0)
