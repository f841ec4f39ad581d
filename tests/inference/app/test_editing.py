"""Edits of clicks: each changes one click, and what the store could not hold is refused."""

import pytest

from geoclick.clicks import Click
from geoclick.codec import MAX_CLICKS, Part
from geoclick.errors import GeoClickError
from geoclick.inference.app import editing

ONE, TWO, THREE = Click(1, 2), Click(3, 4, False), Click(5, 6)
PARTS = (Part((ONE, TWO)), Part((THREE,)))


def test_clicks_are_numbered_through_all_parts():
    assert editing.clicks_of(PARTS) == [(0, ONE), (0, TWO), (1, THREE)]


def test_a_click_is_added_to_its_part_or_begins_a_new_one():
    new = Click(9, 9)
    assert editing.add(PARTS, new, 0) == (Part((ONE, TWO, new)), PARTS[1])
    assert editing.add(PARTS, new, 2) == (*PARTS, Part((new,)))
    assert editing.add((), new, 0) == (Part((new,)),)


@pytest.mark.parametrize(
    ("click", "part", "words"),
    [
        (Click(9, 9, False), 2, "begins with a positive click"),
        (Click(9, 9), 3, "no part 4"),
        (Click(9, 9), -1, "no part 0"),
        (ONE, 0, r"has a click at \(1, 2\) already"),
    ],
)
def test_a_click_without_a_place_is_refused(click, part, words):
    with pytest.raises(GeoClickError, match=words):
        editing.add(PARTS, click, part)


def test_answers_have_limits():
    full = (Part(tuple(Click(i, 0) for i in range(MAX_CLICKS))),)
    with pytest.raises(GeoClickError, match=f"at most {MAX_CLICKS} clicks"):
        editing.add(full, Click(0, 1), 0)
    many = tuple(Part((Click(i, 0),)) for i in range(editing.MAX_PARTS))
    with pytest.raises(GeoClickError, match=f"at most {editing.MAX_PARTS} parts"):
        editing.add(many, Click(0, 1), len(many))


def test_a_click_is_moved_flipped_and_deleted_by_its_number():
    assert editing.move(PARTS, 2, 7, 8) == (PARTS[0], Part((Click(7, 8),)))
    assert editing.move(PARTS, 2, 5, 6) == PARTS
    assert editing.flip(PARTS, 1) == (Part((ONE, Click(3, 4))), PARTS[1])
    assert editing.delete(PARTS, 0) == (Part((TWO,)), PARTS[1])
    assert editing.delete(PARTS, 2) == PARTS[:1]
    assert editing.delete(editing.delete(PARTS[:1], 1), 0) == ()


@pytest.mark.parametrize("number", [-1, 3])
def test_a_number_without_a_click_is_refused(number):
    for edit in (editing.delete, editing.flip, lambda parts, n: editing.move(parts, n, 0, 0)):
        with pytest.raises(GeoClickError, match="no click"):
            edit(PARTS, number)


def test_places_are_pixels_inside_the_image():
    assert editing.place(1.4, 2.6, (10, 20)) == (1.0, 3.0)
    assert editing.place(-0.4, 9.5, (10, 20)) == (0.0, 9.0)
    for x, y in ((20, 1), (-0.6, 1), (1, 9.6), (float("nan"), 1)):
        with pytest.raises(GeoClickError, match="outside the 20x10 image"):
            editing.place(x, y, (10, 20))


def test_boxes_and_parts_without_a_positive_click_cannot_be_saved():
    editing.check_teachable(PARTS)
    editing.check_teachable(())
    boxed = (Part((ONE,), (0, 0, 5, 5)), Part((), (1, 1, 2, 2)))
    with pytest.raises(GeoClickError, match="Part 1 has a box"):
        editing.check_teachable(boxed)
    assert editing.without_boxes(boxed) == (Part((ONE,)),)
    with pytest.raises(GeoClickError, match="Part 1 has no positive click"):
        editing.check_teachable((Part((TWO,)),))
