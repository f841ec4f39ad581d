import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geoclick import masks, metrics
from geoclick.errors import GeoClickError, UsageError

pairs = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
        lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
    ),
    min_size=1,
    max_size=8,
)


def rectangle(rows, columns, shape=(10, 10)):
    mask = np.zeros(shape, bool)
    mask[:rows, :columns] = True
    return mask


EMPTY = rectangle(0, 0)


@given(pairs)
def test_native_is_the_mean_and_the_ratio_of_sums(samples):
    result = metrics.score(*zip(*samples, strict=True))
    ious = [masks.iou(a, b) for a, b in samples]
    assert result["miou"] == result["giou"] == pytest.approx(np.mean(ious))
    union = sum(int((a | b).sum()) for a, b in samples)
    expected = sum(int((a & b).sum()) for a, b in samples) / union if union else 1.0
    assert result["oiou"] == result["ciou"] == pytest.approx(expected)
    assert result["n"] == len(samples)
    for x in (0.5, 0.6, 0.7, 0.8, 0.9):
        assert result[f"pr@{x}"] == pytest.approx(np.mean([iou >= x for iou in ious]))


@given(pairs, st.integers(0, 8), st.sampled_from(sorted(metrics.MODES)))
def test_parts_merge_to_the_whole(samples, cut, mode):
    whole, first, second = (metrics.Scores(mode) for _ in range(3))
    for index, (prediction, target) in enumerate(samples):
        whole.add(prediction, target)
        (first if index < cut else second).add(prediction, target)
    first.merge(second)
    assert first.result() == whole.result()


def test_modes_differ_where_they_are_published_to():
    # IoU 1/2 exactly, and an empty pair.
    predictions, targets = [rectangle(5, 10), EMPTY], [rectangle(10, 10), EMPTY]
    native, rmsin, segearth = (metrics.score(predictions, targets, mode) for mode in metrics.MODES)
    assert (native["miou"], native["pr@0.5"]) == (0.75, 1.0)
    assert (rmsin["miou"], rmsin["pr@0.5"]) == (0.25, 0.5)
    assert (segearth["miou"], segearth["pr@0.5"]) == (0.75, 0.5)
    assert native["oiou"] == rmsin["oiou"] == segearth["oiou"] == 0.5


@pytest.mark.parametrize(("mode", "value"), [("native", 1.0), ("rmsin", 0.0), ("segearth-r1", 1.0)])
def test_nothing_predicted_of_nothing(mode, value):
    result = metrics.score([EMPTY], [EMPTY], mode)
    assert (result["miou"], result["oiou"], result["pr@0.9"]) == (value, value, value)


@given(st.sampled_from([1, 2, 3, 5]), st.sampled_from([1, 2, 4, 8]))
def test_rmsin_resizes_whole_factors_exactly(rows, columns):
    mask = np.random.default_rng(rows * 10 + columns).random((rows, columns)) > 0.5
    assert np.array_equal(metrics._nearest(mask, 480), np.kron(mask, np.ones((480 // rows, 480 // columns))))
    large = np.kron(np.resize(mask, (480, 480)), np.ones((2, 3), bool))
    assert np.array_equal(metrics._nearest(large, 480), np.resize(mask, (480, 480)))


def test_rmsin_weighs_large_and_small_images_alike():
    predictions = [rectangle(1, 2, (2, 2)), EMPTY]
    targets = [rectangle(2, 2, (2, 2)), rectangle(10, 10)]
    assert metrics.score(predictions, targets, "rmsin")["oiou"] == 0.25
    assert metrics.score(predictions, targets)["oiou"] == pytest.approx(2 / 104)


def test_ignored_pixels_do_not_count():
    valid = rectangle(5, 10)
    for mode in metrics.MODES:
        scores = metrics.Scores(mode)
        assert scores.add(rectangle(5, 10), rectangle(10, 10), valid) == 1.0
        assert metrics.sample_iou(rectangle(5, 10), rectangle(10, 10), mode) == 0.5


def test_masks_of_0_and_255_score_like_booleans():
    prediction, target = rectangle(5, 10).astype(np.uint8) * 255, rectangle(10, 10).astype(np.uint8)
    assert metrics.score([prediction], [target])["miou"] == 0.5


def test_errors_name_the_fault():
    with pytest.raises(UsageError, match="segearth-r1"):
        metrics.score([EMPTY], [EMPTY], "coco")
    with pytest.raises(GeoClickError, match="1 predictions do not match 2 targets"):
        metrics.score([EMPTY], [EMPTY, EMPTY])
    with pytest.raises(GeoClickError, match="shape"):
        metrics.score([EMPTY], [EMPTY[:3]])
    with pytest.raises(GeoClickError, match="at least one"):
        metrics.score([], [])
    with pytest.raises(GeoClickError, match="modes"):
        metrics.Scores("native").merge(metrics.Scores("rmsin"))


def test_bootstrap_interval_covers_the_mean_and_narrows():
    values = np.random.default_rng(0).random(400)
    low, high = metrics.bootstrap_interval(values)
    assert low < values.mean() < high
    # 1.96 standard errors on either side, within the resampling noise.
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    assert metrics.bootstrap_interval(values) == (low, high)
    assert metrics.bootstrap_interval(values, seed=1) != (low, high)
    wide_low, wide_high = metrics.bootstrap_interval(values, level=0.99)
    assert wide_low < low
    assert high < wide_high
    assert metrics.bootstrap_interval([0.25]) == (0.25, 0.25)
    with pytest.raises(GeoClickError):
        metrics.bootstrap_interval([])
