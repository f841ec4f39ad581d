import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from geoclick import masks
from geoclick.errors import GeoClickError, UsageError
from geoclick.scoring import metrics


def rectangle(rows, columns, shape=(10, 10)):
    mask = np.zeros(shape, bool)
    mask[:rows, :columns] = True
    return mask


EMPTY = rectangle(0, 0)


@pytest.fixture(scope="module")
def thousand():
    """1,000 pairs of masks of all densities and many sizes; a mask in six is empty, and one in six full."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(1000):
        shape = tuple(rng.integers(1, 60, 2))
        made.append(tuple(rng.random(shape) < rng.choice([0, 0.02, 0.3, 0.7, 0.98, 1]) for _ in range(2)))
    assert sum(not (a.any() or b.any()) for a, b in made) > 20
    return made


def test_iou_equals_pycocotools(thousand):
    for prediction, target in thousand:
        found = metrics.compare(prediction, target)
        a, b = (coco.encode(np.asfortranarray(mask, np.uint8)) for mask in (prediction, target))
        assert found.intersection == coco.area(coco.merge([a, b], intersect=True))
        assert found.union == coco.area(coco.merge([a, b]))
        expected = coco.iou([a], [b], [False])[0, 0] if found.union else 1.0
        assert found.iou == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("mode", ["native", "rmsin", "segearth-r1", "think2seg"])
def test_scores_equal_plain_numpy(thousand, mode):
    """The rules of every mode, implemented a second time."""
    side = {"rmsin": 480, "think2seg": 840}.get(mode)
    if mode == "segearth-r1":
        # Both sides divide 1024, so that the letterbox repeats every pixel equally often.
        thousand = [[np.resize(mask, (16, 64)) for mask in pair] for pair in thousand[:100]]
    some = thousand if side is None else thousand[:100]
    ious, inner, outer, answered = [], [], [], []
    for prediction, target in some:
        if side:
            images = (Image.fromarray(np.uint8(mask) * 255) for mask in (prediction, target))
            prediction, target = (np.array(image.resize((side, side), 0)) > 0 for image in images)
        i, u = (prediction * target).sum(), np.maximum(prediction, target).sum()
        answered.append(prediction.any() or not target.any())
        if mode == "think2seg" and not target.any():
            ious.append(1.0 - prediction.any())
            continue
        inner.append(i)
        outer.append(u)
        ious.append(i / u if u else {"rmsin": 0.0}.get(mode, 1.0))
    ious = np.array(ious)
    found = metrics.score(*zip(*some, strict=True), mode)
    assert found["miou"] == found["giou"] == pytest.approx(np.sum(ious) / len(some), abs=1e-9)
    assert found["oiou"] == found["ciou"] == pytest.approx(sum(inner) / sum(outer), abs=1e-9)
    for x in (0.5, 0.6, 0.7, 0.8, 0.9):
        over = ious > x if mode == "segearth-r1" else ious >= x
        among = sum(answered) if mode == "think2seg" else len(some)
        assert found[f"pr@{x}"] == pytest.approx(sum(over) / among, abs=1e-9)
    assert found["n"] == len(some)
    assert 0 <= found["boundary_iou"] <= 1


def test_modes_differ_as_published():
    # IoU 1/2 exactly, and an empty pair.
    predictions, targets = [rectangle(5, 10), EMPTY], [rectangle(10, 10), EMPTY]
    native, rmsin, segearth, think2seg, _ = (
        metrics.score(predictions, targets, mode) for mode in metrics.MODES
    )
    assert (native["miou"], native["pr@0.5"]) == (0.75, 1.0)
    assert (rmsin["miou"], rmsin["pr@0.5"]) == (0.25, 0.5)
    assert (segearth["miou"], segearth["pr@0.5"]) == (0.75, 0.5)
    assert (think2seg["miou"], think2seg["pr@0.5"]) == (0.75, 1.0)
    assert native["oiou"] == rmsin["oiou"] == segearth["oiou"] == think2seg["oiou"] == 0.5


@pytest.mark.parametrize(("mode", "value"), [("native", 1.0), ("rmsin", 0.0), ("segearth-r1", 1.0)])
def test_an_empty_mask_of_an_empty_target(mode, value):
    result = metrics.score([EMPTY], [EMPTY], mode)
    assert (result["miou"], result["oiou"], result["pr@0.9"]) == (value, value, value)
    assert result["boundary_iou"] == value


def test_think2seg_scores_a_sample_without_target_by_the_answer():
    no_target = metrics.compare(EMPTY, EMPTY, "think2seg")
    unreadable = metrics.compare(EMPTY, EMPTY, "think2seg", parsed=False)
    alarm = metrics.compare(rectangle(3, 3), EMPTY, "think2seg")
    assert [found.iou for found in (no_target, unreadable, alarm)] == [1, 0, 0]
    assert [found.answered for found in (no_target, unreadable, alarm)] == [True, False, True]
    # Without a target, nothing is added to the union; with one, an empty mask is.
    assert {(found.intersection, found.union) for found in (no_target, unreadable, alarm)} == {(0, 0)}
    missed = metrics.compare(EMPTY, rectangle(10, 10), "think2seg")
    assert (missed.iou, missed.intersection, missed.union, missed.answered) == (0, 0, 840**2, False)


@pytest.mark.parametrize("mode", metrics.MODES)
def test_an_answer_that_cannot_be_read_is_no_answer_of_no_target(mode):
    unreadable = metrics.compare(EMPTY, EMPTY, mode, parsed=False)
    assert (unreadable.iou, unreadable.boundary_iou, unreadable.union) == (0, 0, 0)
    missed = metrics.compare(EMPTY, rectangle(3, 3), mode, parsed=False)
    assert (missed.iou, missed.boundary_iou) == (0, 0)


def test_think2seg_precision_is_of_answered_samples():
    predictions, targets = [rectangle(10, 10), EMPTY, EMPTY], [rectangle(10, 10)] * 2 + [EMPTY]
    assert metrics.score(predictions, targets, "think2seg")["pr@0.9"] == 1
    assert metrics.score(predictions, targets, "think2seg")["miou"] == pytest.approx(2 / 3)
    assert metrics.score(predictions, targets)["pr@0.9"] == pytest.approx(2 / 3)
    assert metrics.score([EMPTY], [rectangle(10, 10)], "think2seg")["pr@0.5"] == 0


def test_think2seg_loses_a_target_that_the_resize_removes():
    target = np.zeros((2000, 2000), bool)
    target[0, 0] = True
    assert metrics.compare(np.zeros_like(target), target, "think2seg").iou == 1
    assert metrics.compare(np.zeros_like(target), target).iou == 0


@given(st.sampled_from([1, 2, 3, 5]), st.sampled_from([1, 2, 4, 8]))
def test_rmsin_resizes_integer_factors_exactly(rows, columns):
    mask = np.random.default_rng(rows * 10 + columns).random((rows, columns)) > 0.5
    rules = metrics.MODES["rmsin"]
    assert np.array_equal(
        metrics._at_size(mask, rules), np.kron(mask, np.ones((480 // rows, 480 // columns)))
    )
    large = np.kron(np.resize(mask, (480, 480)), np.ones((2, 3), bool))
    assert np.array_equal(metrics._at_size(large, rules), np.resize(mask, (480, 480)))


def test_rmsin_weights_large_and_small_images_equally():
    predictions = [rectangle(1, 2, (2, 2)), EMPTY]
    targets = [rectangle(2, 2, (2, 2)), rectangle(10, 10)]
    assert metrics.score(predictions, targets, "rmsin")["oiou"] == 0.25
    assert metrics.score(predictions, targets)["oiou"] == pytest.approx(2 / 104)


def test_ignored_pixels_do_not_count():
    valid = rectangle(5, 10)
    for mode in metrics.MODES:
        assert metrics.compare(rectangle(5, 10), rectangle(10, 10), mode, valid).iou == 1.0
        assert metrics.compare(rectangle(5, 10), rectangle(10, 10), mode).iou == 0.5


def test_a_mask_surrounded_by_ignored_pixels_has_its_iou_as_boundary_iou():
    valid = np.zeros((40, 40), bool)
    valid[10:20, 10:20] = True
    for prediction, expected in ((valid, 1), (np.zeros_like(valid), 0)):
        found = metrics.compare(prediction, valid, valid=valid)
        assert found.iou == found.boundary_iou == expected


def test_without_any_pixel_the_overall_iou_is_the_mean():
    scores = metrics.Scores()
    for parsed in (True, False, False, False):
        scores.count(metrics.compare(EMPTY, EMPTY, parsed=parsed))
    assert scores.result()["oiou"] == scores.result()["miou"] == 0.25


def test_masks_of_0_and_255_score_like_booleans():
    prediction, target = rectangle(5, 10).astype(np.uint8) * 255, rectangle(10, 10).astype(np.uint8)
    assert metrics.score([prediction], [target])["miou"] == 0.5


def test_numbers_are_plain_for_json():
    found = metrics.compare(rectangle(5, 10), rectangle(10, 10))
    assert [type(value) for value in vars(found).values()] == [float, int, int, float, bool]
    result = metrics.score([rectangle(5, 10)], [rectangle(10, 10)])
    assert {type(value) for value in result.values()} == {float, int}


def test_iou_equals_masks_iou(thousand):
    assert all(metrics.compare(a, b).iou == masks.iou(a, b) for a, b in thousand[:50])


def test_errors():
    with pytest.raises(UsageError, match="segearth-r1"):
        metrics.score([EMPTY], [EMPTY], "coco")
    with pytest.raises(GeoClickError, match="1 predictions do not match 2 targets"):
        metrics.score([EMPTY], [EMPTY, EMPTY])
    with pytest.raises(GeoClickError, match="shape"):
        metrics.score([EMPTY], [EMPTY[:3]])
    with pytest.raises(GeoClickError, match="at least one"):
        metrics.score([], [])
