import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geoclick.clicks import Click
from geoclick.segmenters.center_rule import next_click
from tests.small_masks import blank, box


def test_the_first_click_is_positive_in_the_center():
    assert next_click(box(2, 3, 7, 8), blank(), ()) == Click(5, 4, True)


def test_x_is_the_column_and_types_are_plain():
    click = next_click(box(0, 9, 3, 12), blank(), [])
    assert click == Click(10, 1, True)
    assert [type(value) for value in click] == [int, int, bool]


def test_a_perfect_mask_has_no_click():
    assert next_click(blank(), blank(), ()) is None
    assert next_click(box(2, 2, 5, 5), box(2, 2, 5, 5), [Click(3, 3)]) is None


def test_the_larger_radius_wins_not_the_larger_area():
    missed, surplus = box(0, 0, 1, 16), box(5, 5, 8, 8)
    assert next_click(missed, surplus, ()) == Click(6, 6, False)


def test_a_tie_is_negative():
    assert next_click(box(1, 1, 4, 4), box(6, 6, 9, 9), ()) == Click(7, 7, False)


def test_the_first_maximum_in_row_major_order():
    assert next_click(box(2, 8, 5, 11) | box(3, 1, 6, 4), blank(), ()) == Click(9, 3, True)
    assert next_click(box(4, 4, 6, 10), blank(), ()) == Click(4, 4, True)


def test_the_border_bounds_a_full_map():
    assert next_click(np.ones((5, 9), bool), np.zeros((5, 9), bool), ()) == Click(2, 2, True)


@pytest.mark.parametrize("clicked", [Click(5, 4, True), Click(5, 4, False), (5, 4), (5.2, 3.9)])
def test_only_the_clicked_pixel_is_excluded(clicked):
    # The neighbors at distance 2 stay, and the first of them in row-major order is taken.
    assert next_click(box(2, 3, 7, 8), blank(), [clicked]) == Click(4, 3, True)


def test_a_click_on_the_other_side_of_a_tie_lets_the_other_side_win():
    # Zeroing the pixel lowers the maximum of its side: the product comes before the comparison.
    assert next_click(box(1, 1, 4, 4), box(6, 6, 9, 9), [(7, 7)]) == Click(2, 2, True)


def test_no_click_is_left_if_every_wrong_pixel_was_clicked():
    assert next_click(box(3, 3, 4, 5), blank(), [(3, 3), (4, 3)]) is None


def test_ignored_pixels_do_not_count_and_bound_the_distance():
    target, valid = box(0, 0, 5, 9), ~box(0, 4, 12, 5)
    assert next_click(target, blank(), (), valid) == Click(1, 1, True)
    assert next_click(blank(), box(3, 3, 6, 6), (), ~box(3, 3, 6, 6)) is None


def test_clicks_outside_the_image_change_nothing():
    target = box(2, 3, 7, 8)
    assert next_click(target, blank(), [(-1, -1), (16, 4), (5, 99)]) == next_click(target, blank(), ())


MAPS = arrays(bool, (7, 8))


@given(MAPS, MAPS, MAPS, st.lists(st.tuples(st.integers(0, 7), st.integers(0, 6)), max_size=6))
def test_a_click_lies_on_a_wrong_pixel_of_its_sign_that_counts(target, prediction, valid, clicked):
    click = next_click(target, prediction, clicked, valid)
    wrong = (target != prediction) & valid
    for x, y in clicked:
        wrong[y, x] = False
    if click is None:
        assert not wrong.any()
        return
    assert wrong[click.y, click.x]
    assert target[click.y, click.x] == click.positive


@settings(max_examples=50)
@given(MAPS, MAPS)
def test_inputs_are_not_changed(target, prediction):
    before = target.copy(), prediction.copy()
    next_click(target, prediction, [(1, 1)])
    np.testing.assert_array_equal(target, before[0])
    np.testing.assert_array_equal(prediction, before[1])
