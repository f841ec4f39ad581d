"""Percentile bootstrap intervals: how far a score may lie from what other samples of the same kind would give.

Equal values, seed and numpy version give equal intervals.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from geoclick.errors import GeoClickError

RESAMPLES = 1000
LEVEL = 0.95
AT_ONCE = 1 << 18
"""Rows drawn at once, in however many resamples, so that memory does not grow with the samples."""


def bootstrap_interval(
    values: Sequence[float], seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[float, float]:
    """The interval (low, high) of the mean of one value a sample.

    Raises:
        GeoClickError: there are no values.
    """
    if len(values) == 0:
        raise GeoClickError("An interval needs at least one value; score some samples first.")
    array = np.asarray(values, dtype=np.float64)
    means = [array[drawn].mean(axis=1) for drawn in _draws(len(array), seed, resamples)]
    return percentiles(np.concatenate(means), level)


def percentiles(resampled: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The interval (low, high) that holds the share `level` of a score's values in resamples, float [R]."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled_sums(counts: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """The column sums of resamples of the rows.

    Args:
        counts: [N, K] whole numbers, such as the pixels of K classes in N images.
        seed: of the draws.
        resamples: R.

    Returns:
        float64 [R, K]; exact, in whatever order it is summed, as long as sums stay below 2^53.
    """
    rows, sums = len(counts), []
    for drawn in _draws(rows, seed, resamples):
        places = drawn + rows * np.arange(len(drawn))[:, None]
        times = np.bincount(places.ravel(), minlength=drawn.size).reshape(drawn.shape)
        sums.append(times.astype(np.float64) @ counts.astype(np.float64))
    return np.concatenate(sums)


def _draws(rows: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Row numbers of resamples, int64 [some, rows], until there are `resamples`; the same however many at once."""
    rng, some = np.random.default_rng(seed), max(1, AT_ONCE // rows)
    for start in range(0, resamples, some):
        yield rng.integers(rows, size=(min(some, resamples - start), rows))
