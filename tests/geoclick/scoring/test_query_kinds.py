"""Kinds of queries; the sentences are from RRSIS-D or follow its patterns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick.scoring import query_kinds

QUERIES = {
    "position": (
        "the ship on the left",
        "The expressway service area in the middle",
        "The storage tank at the bottom",
        "The ship on the far right",
        "A baseball field on the lower left",
        "The tennis court is on the far left",
        "the leftmost tank",
        "the top right building",
        "the upper-left harbor",
        "the second court from the left",
        "the vehicle in the lower right corner of the image",
        "the ship to the left of the image",
        "the court in the center of the picture",
        "vehicle in the north east corner",
    ),
    "relation": (
        "A vehicle is on the right of the airport",
        "A bridge is above the dam",
        "A ground track field is in the stadium",
        "The vehicle is driving on the bridge",
        "the ship next to the dock",
        "vehicle parked right next to the building",
        "the car along the road",
        "the court to the left of a stadium",
        "the vehicle on the left side of the road",
        "the tank at the corner of the harbor",
        "vehicle in the parking area",
    ),
    "size": (
        "The large bridge",
        "A tiny ship",
        "the biggest swimming pool",
        "the longest bridge",
        "A small frustum of a cone chimney",
    ),
    "color": ("A gray train station", "A green and brown golf field", "the building with light-blue roof"),
    "several": (
        "a small vehicle on the upper right of the harbor",
        "A vehicle is on the right of the red vehicle",
        "A huge frustum of a cone chimney in the middle",
        "The gray frustum of a cone large chimney",
        "The vehicle is on the lower left of the baseball field on the upper right",
        "The vehicle is similar in size to the vehicle on the upper left",
        "A ground track field is in the stadium in the middle",
        "The ship is larger than the ship on the left",
    ),
    "plain": (
        "a stadium",
        "A rectangular basketball court",
        "the shopping center",
        "expressway toll station",
        "light-duty vehicle",
        "impervious surface",
    ),
}


@pytest.mark.parametrize(("query", "kind"), [(q, kind) for kind, queries in QUERIES.items() for q in queries])
def test_kinds_follow_from_the_words(query, kind):
    assert query_kinds.kind(query) == kind
    assert query_kinds.kind(query.upper() + ".") == kind


@pytest.mark.parametrize("task", ["reasoning", "no_target", "semantic"])
def test_other_tasks_are_kinds_of_their_own(task):
    assert query_kinds.kind("the ship on the left", task) == task


@given(st.text())
def test_any_text_has_one_kind(text):
    assert query_kinds.kind(text) in query_kinds.KINDS
