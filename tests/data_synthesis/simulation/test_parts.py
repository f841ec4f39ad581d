import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geoclick.clicks import Click
from geoclick.components import cut
from geoclick.data_synthesis.simulation.parts import choose, ordered, united, whole
from geoclick.data_synthesis.simulation.simulate import Simulated, simulate
from geoclick.masks import iou
from tests.data_synthesis.disc_segmenter import DiscSegmenter
from tests.data_synthesis.simulation.test_simulate import disc, embeddings


def test_the_union_has_the_iou_of_its_masks_after_each_click():
    target = disc(12, 12, 6) | disc(38, 30, 9)
    segmenter = DiscSegmenter()
    parts = cut(target, distance=0, area=1).parts
    results = simulate(
        segmenter,
        embeddings(segmenter, 2),
        parts,
        [part | ~target for part in parts],
        all_masks=True,
        iou_target=0.7,
    )
    for order, (first, second) in {"left-to-right": results[::-1], "size": results}.items():
        both = united(results, target, None, order)
        assert len(both.parts) == 2
        assert both.clicks == first.clicks[: both.parts[0]] + second.clicks[: both.parts[1]]
        assert len(both.ious) == sum(both.parts)
        np.testing.assert_array_equal(
            both.mask, first.masks[both.parts[0] - 1] | second.masks[both.parts[1] - 1]
        )
        assert both.ious[-1] == max(both.ious) == iou(both.mask, target)
        assert both.ious[0] == iou(first.masks[0], target)
        assert both.useless_clicks == len(first.clicks + second.clicks) - len(both.clicks)
    for result in results:
        np.testing.assert_array_equal(result.masks[-1], result.mask)


def simulated(target, *steps):
    """A sequence whose click k is at the first pixel of the columns that the mask then covers in one row."""
    masks = [np.isin(np.arange(target.shape[1]), step)[None] for step in steps]
    clicks = tuple(Click(step[0], 0) for step in steps)
    return Simulated(clicks, tuple(iou(mask, target) for mask in masks), masks[-1], tuple(masks))


def test_parts_and_clicks_that_raise_nothing_are_left_out():
    target = np.zeros((1, 20), bool)
    target[0, [0, 1, 2, 8, 9, 15]] = True
    useful = simulated(target, [8, 9])
    later_clicks = simulated(target, [1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2])
    on_surplus = simulated(target, [12, 13, 14, 15])
    silent = Simulated((), (), np.zeros((1, 20), bool))
    both = united([later_clicks, useful, on_surplus, silent], target, None)
    assert (both.parts, both.useless_parts, both.useless_clicks) == ((2, 1), 2, 2)
    assert both.ious == (1 / 6, 3 / 6, 5 / 6)
    assert united([silent], target, None).clicks == ()


def test_a_part_that_later_ones_cover_is_left_out():
    target = np.zeros((1, 20), bool)
    target[0, [0, 1, 2, 8, 9, 15]] = True
    small, large = simulated(target, [0, 1]), simulated(target, [1, 0, 2, 8, 9])
    both = united([small, large], target, None)
    assert (both.clicks, both.useless_parts, both.ious) == (large.clicks, 1, (5 / 6,))


def test_a_mask_of_everything_does_not_hide_good_parts():
    """The first part from the left has a poor mask, which covers all others."""
    target = np.zeros((1, 40), bool)
    target[0, [0, 1, 10, 11, 12, 20, 21, 30]] = True
    poor = simulated(target, list(range(40)))
    good = [simulated(target, [10, 11, 12]), simulated(target, [20, 21]), simulated(target, [30])]
    both = united([good[0], poor, *good[1:]], target, None)
    assert both.clicks == sum((one.clicks for one in good), ())
    assert (both.useless_parts, both.ious[-1]) == (1, 6 / 8)


@given(st.lists(arrays(bool, (3, 2, 9)), min_size=1, max_size=4), arrays(bool, (2, 9)).filter(np.any))
def test_no_part_or_end_of_one_can_be_left_out_and_the_union_is_at_least_the_best_part(stacks, target):
    results = [
        Simulated(
            tuple(Click(int(stack.sum()), k) for k in range(3)),
            tuple(iou(mask, target) for mask in stack),
            stack[-1],
            tuple(stack),
        )
        for stack in stacks
    ]
    both = united(results, target, None)
    assert max(both.ious, default=0.0) >= max(max(one.ious) for one in results)
    assert len(both.parts) + both.useless_parts == len(results)
    if both.clicks:
        assert iou(both.mask, target) == both.ious[-1]
        assert len(both.clicks) + both.useless_clicks == 3 * len(both.parts)


def test_parts_are_ordered_by_their_first_clicks_or_by_size():
    target = np.ones((1, 20), bool)
    left, middle, right = (simulated(target, [x, x + 1], [x]) for x in (1, 7, 12))
    lower = Simulated((Click(7, 5),), (0.1,), right.mask, (right.mask,))
    by_size = [right, lower, left, middle]
    assert ordered(by_size, "size") == by_size
    assert ordered(by_size, "left-to-right") == [left, middle, lower, right]


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
