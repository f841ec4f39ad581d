import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from geoclick.clicks import Click
from geoclick.data_synthesis.simulation.part_rules import MAX_PARTS, PartRules
from geoclick.data_synthesis.simulation.parts import choose, cut, united, whole
from geoclick.data_synthesis.simulation.simulate import Simulated, simulate
from geoclick.masks import iou
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from tests.data_synthesis.simulation.test_simulate import disc, embeddings

EXACT = PartRules("components", distance=0, area=1)


@given(arrays(bool, (9, 12)).filter(np.any))
def test_exact_parts_are_the_components_the_largest_first(target):
    result = cut(target, EXACT)
    labels, count = ndimage.label(target, np.ones((3, 3)))
    assert (result.joined, result.small) == (0, 0)
    assert len(result.parts) == min(count, MAX_PARTS)
    assert result.beyond == count - len(result.parts)
    areas = [int(part.sum()) for part in result.parts]
    assert areas == sorted(np.bincount(labels[target])[1:].tolist(), reverse=True)[:MAX_PARTS]
    assert np.sum(result.parts, axis=0).max() == 1
    if not result.beyond:
        np.testing.assert_array_equal(np.logical_or.reduce(result.parts), target)


@given(arrays(bool, (9, 12)).filter(np.any), st.floats(0, 12), st.integers(1, 30))
def test_parts_are_disjoint_pieces_of_the_target_and_every_component_is_counted(target, distance, area):
    result = cut(target, PartRules("components", distance, area))
    components = ndimage.label(target, np.ones((3, 3)))[1]
    assert len(result.parts) + result.joined + result.small + result.beyond == components
    assert not (np.logical_or.reduce(result.parts) & ~target).any()
    assert np.sum(result.parts, axis=0).max() == 1
    assert len(result.parts) == 1 or all(part.sum() >= area for part in result.parts)


def test_near_components_are_joined():
    target = np.zeros((20, 40), bool)
    target[5:10, 5:10] = target[5:10, 12:17] = target[5:10, 20:25] = True
    assert cut(target, PartRules("components", distance=2)).joined == 1
    assert cut(target, PartRules("components", distance=1)).joined == 0
    assert cut(target, PartRules("components", distance=4)).joined == 2


def test_the_union_has_the_iou_of_its_masks_after_each_click():
    target = disc(12, 12, 9) | disc(38, 30, 6)
    segmenter = DiscSegmenter()
    parts = cut(target, EXACT).parts
    results = simulate(
        segmenter,
        embeddings(segmenter, 2),
        parts,
        [part | ~target for part in parts],
        all_masks=True,
        iou_target=0.7,
    )
    both = united(results, target, None)
    first, second = (result.ious.index(max(result.ious)) for result in results)
    assert both.parts == (first + 1, second + 1)
    assert both.clicks == results[0].clicks[: first + 1] + results[1].clicks[: second + 1]
    assert len(both.ious) == sum(both.parts)
    np.testing.assert_array_equal(both.mask, results[0].masks[first] | results[1].masks[second])
    assert both.ious[-1] == iou(both.mask, target)
    assert both.ious[0] == iou(results[0].masks[0], target)
    for result in results:
        np.testing.assert_array_equal(result.masks[-1], result.mask)


@pytest.mark.parametrize(
    ("ious_of_one", "ious_of_parts", "is_one"),
    [
        ((0.5, 0.92), (0.5, 0.97), True),  # reaches the target with no more clicks
        ((0.5, 0.7, 0.92), (0.5, 0.97), False),
        ((0.5, 0.6), (0.4, 0.8), False),
        ((0.5, 0.6), (0.4, 0.5, 0.55), True),  # the parts are worse
    ],
)
def test_auto_takes_one_prompt_where_parts_gain_nothing(ious_of_one, ious_of_parts, is_one):
    one, parts = (
        whole(Simulated(tuple(Click(k, k) for k in range(len(ious))), ious, np.zeros((2, 2), bool)))
        for ious in (ious_of_one, ious_of_parts)
    )
    assert choose(one, parts, 0.9) is (one if is_one else parts)
