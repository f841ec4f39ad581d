import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from geoclick.instances import of_mask
from geoclick.masks import iou as mask_iou
from geoclick.scoring import instances


def row(*spans, length=100):
    """A mask of ten rows with the columns of each (start, stop)."""
    mask = np.zeros((10, length), bool)
    for start, stop in spans:
        mask[:, start:stop] = True
    return mask


def of(*masks):
    return [of_mask((), mask) for mask in masks]


TARGET = row((0, 10), (20, 30), (40, 50))


def counts(true, predicted, matched):
    return {"true": true, "predicted": predicted, "matched": matched}


def test_parts_of_the_answer_are_matched_with_the_components_of_the_target():
    answer = of(row((0, 10)), row((22, 32)), row((46, 60)), row((80, 90)))
    assert instances.compare(answer, row(), TARGET) == counts(3, 4, 2)
    # Without parts, those of the mask: two objects that the mask joins are one.
    assert instances.compare([], row((0, 30), (40, 50)), TARGET) == counts(3, 2, 1)
    assert instances.compare([], row(), TARGET) == counts(3, 0, 0)


def test_a_target_of_one_part_or_none_is_not_counted():
    assert instances.compare(of(row((0, 5)), row((6, 9))), row((0, 9)), row((0, 10))) is None
    assert instances.compare([], row((0, 9)), row()) is None
    speck = row((0, 10))
    speck[3, 60] = True
    assert instances.compare([], speck, speck) is None


def test_listed_instances_may_touch_and_are_found_one_by_one():
    target, listed = row((0, 20)), [row((0, 10)), row((10, 20))]
    assert instances.compare(of(*listed), target, target, listed) == counts(2, 2, 2)
    assert instances.compare([], target, target, listed) == counts(2, 1, 1)
    # A twin of an instance is not another one.
    assert instances.compare(of(listed[0], listed[0]), target, target, listed) == counts(2, 2, 1)


def test_the_assignment_is_the_largest_one():
    # The first fits both (IoU 0.5 and 0.6), the second one of them only.
    true = of(row((0, 10)), row((0, 12)))
    assert [instances.iou(one, two) >= 0.5 for one in true for two in true] == [True] * 4
    wide, narrow = row((0, 20)), row((0, 6))
    assert instances.matches(of(row((0, 11)), narrow), true) == 2
    assert instances.matches(of(wide, row((0, 7))), true) == 2


def test_pixels_that_are_not_scored_count_in_neither():
    valid = ~row((25, 100))
    assert instances.compare([], TARGET, TARGET, valid=valid) == counts(2, 2, 2)
    answer = of(row((0, 10)), row((20, 60)), row((80, 90)))
    assert instances.compare(answer, TARGET, TARGET, valid=valid) == counts(2, 2, 2)
    listed = [row((0, 10)), row((20, 30)), row((40, 50))]
    assert instances.compare(answer, TARGET, TARGET, listed, valid) == counts(2, 2, 2)


def test_there_is_no_largest_number():
    many = row(*((start, start + 2) for start in range(0, 100, 5)))
    assert instances.compare([], many, many) == counts(20, 20, 20)


@given(arrays(bool, (6, 7)), arrays(bool, (6, 7)))
def test_the_iou_is_that_of_the_masks(one, other):
    expected = mask_iou(one, other) if (one | other).any() else 0.0
    assert instances.iou(*of(one, other)) == expected


def test_the_scores_are_sums_over_samples():
    scores = instances.InstanceScores()
    assert scores.result() is None
    for sample in (counts(3, 4, 2), counts(2, 2, 2), counts(5, 0, 0)):
        scores.count(sample)
    found = scores.result()
    assert found == {
        "n": 3,
        "true": 10,
        "predicted": 6,
        "matched": 4,
        "precision": pytest.approx(4 / 6),
        "recall": 0.4,
        "f1": 0.5,
        "count_right": pytest.approx(1 / 3),
    }
    assert instances.text(found) == (
        "instances of 3 targets with several parts: F1 0.500 (precision 0.667, recall 0.400), count right in 33.3%"
    )
