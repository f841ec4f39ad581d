import itertools

import numpy as np
import pytest
from scipy import stats

from geoclick.inference.reports import significance


def means(values):
    """The columns whose mean `significance.mean` takes: one sample in each unit."""
    return np.array([values, np.ones(len(values))], float).T


def test_difference_and_interval_match_the_normal_approximation():
    rng = np.random.default_rng(0)
    a, b = rng.random(400), rng.random(400) + 0.1
    found = significance.difference(means(a), means(b), significance.mean, seed=3)
    assert found["a"] == pytest.approx(a.mean())
    assert found["b"] == pytest.approx(b.mean())
    assert found["difference"] == pytest.approx((b - a).mean())
    half = 1.96 * (b - a).std() / 20
    assert found["interval"] == pytest.approx(
        [found["difference"] - half, found["difference"] + half], abs=0.008
    )
    again = significance.difference(means(a), means(b), significance.mean, seed=3)
    assert again == found


def test_the_bootstrap_is_paired():
    rng = np.random.default_rng(0)
    a = rng.random(100)
    found = significance.difference(means(a), means(a + 0.01), significance.mean, seed=0)
    assert found["interval"] == pytest.approx([0.01, 0.01])


def test_intervals_have_their_nominal_coverage():
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(100):
        noise = rng.normal(0.05, 0.2, size=60)
        low, high = significance.difference(means(np.zeros(60)), means(noise), significance.mean, seed)[
            "interval"
        ]
        held += low <= 0.05 <= high
    assert 88 <= held <= 100


def test_the_p_value_matches_the_exact_permutation_test():
    a, b = (
        np.array([0.1, 0.5, 0.9, 0.3, 0.7, 0.2, 0.6, 0.4]),
        np.array([0.3, 0.6, 0.8, 0.7, 0.9, 0.1, 0.9, 0.8]),
    )
    moved = [np.mean(np.array(signs) * (b - a)) for signs in itertools.product((-1, 1), repeat=8)]
    exact = np.mean(np.abs(moved) >= abs(np.mean(b - a)) - 1e-12)
    assert significance.p_value(means(a), means(b), significance.mean, seed=0) == pytest.approx(
        exact, abs=0.012
    )
    assert significance.p_value(means(b), means(a), significance.mean, seed=0) == pytest.approx(
        exact, abs=0.012
    )


def test_the_p_value_matches_scipy_with_several_blocks_of_signs(monkeypatch):
    monkeypatch.setattr(significance, "MAX_SIGNS", 1000)
    rng = np.random.default_rng(2)
    d = rng.normal(0.02, 0.1, size=70)
    found = significance.p_value(means(np.zeros(70)), means(d), significance.mean, seed=0)
    theirs = stats.permutation_test((d,), np.mean, permutation_type="samples", rng=0).pvalue
    assert found == pytest.approx(theirs, abs=0.02)


def test_p_values_of_equal_and_of_very_different_runs():
    a = np.linspace(0, 1, 50)
    assert significance.p_value(means(a), means(a), significance.mean, seed=0) == 1
    assert significance.p_value(means(a), means(a + 0.1), significance.mean, seed=0) == 1 / (
        1 + significance.PERMUTATIONS
    )


def test_classes_without_union_are_left_out_of_the_mean():
    # Two classes: intersections, then unions.
    sums = np.array([[1, 2, 2, 8], [1, 0, 4, 0], [0, 0, 0, 0]], float)
    assert significance.mean_ratio(sums)[:2].tolist() == [(0.5 + 0.25) / 2, 0.25]
    assert np.isnan(significance.mean_ratio(sums)[2])


def test_undefined_scores_have_no_difference():
    nothing, some = np.zeros((5, 2)), np.ones((5, 2))
    found = significance.difference(nothing, some, significance.mean_ratio, seed=0)
    assert found == {"a": None, "b": 1.0, "difference": None, "interval": None}
    assert significance.p_value(nothing, some, significance.mean_ratio, seed=0) is None


def test_images_are_the_units_of_the_permutation():
    # One class, two images: B is better on both, so that one exchange in two is as extreme.
    a, b = np.array([[1, 4], [1, 4]], float), np.array([[3, 4], [3, 4]], float)
    assert significance.p_value(a, b, significance.mean_ratio, seed=0) == pytest.approx(0.5, abs=0.02)


def test_means_over_units_of_several_samples():
    """Units of 1 and 3 samples: the mean is over samples, the resamples are of units."""
    a, b = np.array([[0.2, 1], [0.6, 3]]), np.array([[0.4, 1], [1.8, 3]])
    result = significance.difference(a, b, significance.mean, seed=0)
    assert (result["a"], result["b"]) == (pytest.approx(0.2), pytest.approx(0.55))
    assert result["interval"] == pytest.approx([0.2, 0.4])
