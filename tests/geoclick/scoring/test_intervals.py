import numpy as np
import pytest

from geoclick.errors import GeoClickError
from geoclick.scoring import intervals


def test_bootstrap_interval_covers_the_mean_and_narrows():
    values = np.random.default_rng(0).random(400)
    low, high = intervals.bootstrap_interval(values)
    assert low < values.mean() < high
    # 1.96 standard errors on either side, within the resampling noise.
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    assert intervals.bootstrap_interval(values) == (low, high)
    assert intervals.bootstrap_interval(values, seed=1) != (low, high)
    wide_low, wide_high = intervals.bootstrap_interval(values, level=0.99)
    assert wide_low < low
    assert high < wide_high
    assert intervals.bootstrap_interval([0.25]) == (0.25, 0.25)
    with pytest.raises(GeoClickError):
        intervals.bootstrap_interval([])


@pytest.mark.parametrize("rows", [1, 7, 300])
def test_the_chunk_size_does_not_change_the_interval(monkeypatch, rows):
    """Drawing the resamples one by one gives the same interval."""
    values = np.random.default_rng(1).random(rows)
    rng = np.random.default_rng(5)
    means = [values[rng.integers(rows, size=rows)].mean() for _ in range(50)]
    expected = pytest.approx(np.quantile(means, [0.025, 0.975]), rel=1e-12)
    for at_once in (1, 1000, 1 << 18):
        monkeypatch.setattr(intervals, "AT_ONCE", at_once)
        assert intervals.bootstrap_interval(values, seed=5, resamples=50) == expected


def test_resampled_sums_equal_the_sums_of_the_drawn_rows(monkeypatch):
    counts = np.random.default_rng(2).integers(0, 10**9, (30, 4))
    rng = np.random.default_rng(3)
    expected = [counts[rng.integers(30, size=30)].sum(0) for _ in range(40)]
    for at_once in (1, 100, 1 << 18):
        monkeypatch.setattr(intervals, "AT_ONCE", at_once)
        assert np.array_equal(intervals.resampled_sums(counts, seed=3, resamples=40), expected)


def test_images_are_resampled_with_all_their_samples():
    rng = np.random.default_rng(0)
    of_image = rng.random(30)
    images = np.repeat(np.arange(30), 20)
    low, high = intervals.bootstrap_interval(of_image[images], images=images)
    assert (low, high) == pytest.approx(intervals.bootstrap_interval(of_image))
    narrow = intervals.bootstrap_interval(of_image[images])
    assert np.ptp(narrow) < (high - low) / 3
    # Images with different numbers of samples: the mean stays that over samples.
    uneven = intervals.bootstrap_interval([0.0, 1.0, 1.0, 1.0], images=[7, 3, 3, 3])
    assert uneven == (0, 1)
    assert intervals.image_sums(np.array([[1.0, 2], [3, 4], [5, 6]]), [4, 2, 4]).tolist() == [[3, 4], [6, 8]]


def test_images_with_one_sample_each_give_the_interval_of_the_samples():
    values = np.random.default_rng(0).random(50)
    assert intervals.bootstrap_interval(values, images=range(50)) == intervals.bootstrap_interval(values)
