"""Percentile bootstrap intervals: how much a score may vary with the choice of images.

Images are resampled with all their samples: samples of one image share its content, so that they are not independent.

Equal values, seed and numpy version give equal intervals.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from geoclick.errors import GeoClickError

RESAMPLES = 1000
LEVEL = 0.95
AT_ONCE = 1 << 18
"""Row indices drawn at once, so that memory does not grow with the number of samples."""


def bootstrap_interval(
    values: Sequence[float],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    *,
    images: Sequence[int] | None = None,
) -> tuple[float, float]:
    """The interval (low, high) of the mean of `values`.

    Args:
        values: one for each sample.
        seed: random seed of the draws.
        resamples: number of draws.
        level: share of the resampled means inside the interval.
        images: index of the image of each sample; None if each sample has an image of its own.

    Raises:
        GeoClickError: there are no values.
    """
    if len(values) == 0:
        raise GeoClickError("An interval needs at least one value; score some samples first.")
    array = np.asarray(values, dtype=np.float64)
    if images is None or len(np.unique(images)) == len(array):
        means = [array[drawn].mean(axis=1) for drawn in _draws(len(array), seed, resamples)]
        return percentiles(np.concatenate(means), level)
    sums = resampled_sums(image_sums(np.stack([array, np.ones_like(array)], axis=1), images), seed, resamples)
    return percentiles(sums[:, 0] / sums[:, 1], level)


def image_sums(numbers: np.ndarray, images: Sequence[int] | np.ndarray) -> np.ndarray:
    """The sums of each image's rows.

    Args:
        numbers: [N, K], one row for each sample.
        images: index of the image of each sample.

    Returns:
        float64 [images, K], in the order of the indices.
    """
    present, positions = np.unique(images, return_inverse=True)
    sums = np.zeros((len(present), numbers.shape[1]))
    np.add.at(sums, positions, numbers)
    return sums


def percentiles(resampled: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The interval (low, high) that holds the fraction `level` of a score's resampled values, float [R]."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled_sums(counts: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """The column sums of resamples of the rows.

    Args:
        counts: [N, K] whole numbers, such as the pixels of K classes in N images.
        seed: random seed of the draws.
        resamples: R.

    Returns:
        float64 [R, K]; exact, whatever the order of summation, as long as sums stay below 2^53.
    """
    rows, sums = len(counts), []
    for drawn in _draws(rows, seed, resamples):
        bins = drawn + rows * np.arange(len(drawn))[:, None]
        weights = np.bincount(bins.ravel(), minlength=drawn.size).reshape(drawn.shape)
        sums.append(weights.astype(np.float64) @ counts.astype(np.float64))
    return np.concatenate(sums)


def _draws(rows: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Row indices of `resamples` resamples in chunks, int64 [chunk, rows]; the same for every AT_ONCE."""
    rng, chunk = np.random.default_rng(seed), max(1, AT_ONCE // rows)
    for start in range(0, resamples, chunk):
        yield rng.integers(rows, size=(min(chunk, resamples - start), rows))
