import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick.train.augmentation import directions
from geoclick.train.augmentation.image_views import ImageView

LEFT_RIGHT, UPSIDE_DOWN, QUARTER = ImageView(None, True), ImageView(None, True, 2), ImageView(None, False, 1)
WORDS = ["left", "right", "top", "bottom", "upper left", "lower-right", "topright", "north", "south-west"]
WORDS += ["leftmost", "bottom-most", "uppermost", "northeastern", "western"]


@pytest.mark.parametrize(
    ("query", "mirrored", "flipped", "turned"),
    [
        ("the barn", "the barn", "the barn", "the barn"),
        ("the left barn", "the right barn", "the left barn", "the bottom barn"),
        ("Left barn", "Right barn", "Left barn", "Bottom barn"),
        ("barn on the top", "barn on the top", "barn on the bottom", "barn on the left"),
        ("the barn at the top of the image",) * 2
        + ("the barn at the bottom of the image", "the barn at the left of the image"),
        ("upper left barn", "upper right barn", "lower left barn", "lower left barn"),
        ("top-right corner", "top-left corner", "bottom-right corner", "top-left corner"),
        ("the rightmost car", "the leftmost car", "the rightmost car", "the topmost car"),
        (
            "barn north of the pond",
            "barn north of the pond",
            "barn south of the pond",
            "barn west of the pond",
        ),
        (
            "the south-eastern field",
            "the south-western field",
            "the north-eastern field",
            "the north-eastern field",
        ),
        ("a north-south road", "a north-south road", "a south-north road", "a west-east road"),
        ("lower half", "lower half", "upper half", "right half"),
        ("the left-hand barn", "the right-hand barn", "the left-hand barn", None),
        (
            "barn to the left of the pond",
            "barn to the right of the pond",
            "barn to the left of the pond",
            None,
        ),
        ("the bridge above the river", "the bridge above the river", None, None),
        ("the plane's right wing", None, None, None),
        ("the right wing", "the left wing", None, None),
        ("the horizontal road", "the horizontal road", "the horizontal road", None),
        (
            "the stop near the forest",
            "the stop near the forest",
            "the stop near the forest",
            "the stop near the forest",
        ),
    ],
)
def test_words_follow_the_image(query, mirrored, flipped, turned):
    found = [directions.redirected(query, view.direction) for view in (LEFT_RIGHT, UPSIDE_DOWN, QUARTER)]
    assert found == [mirrored, flipped, turned]


@pytest.mark.parametrize(
    "query",
    [
        "the car left behind",
        "cars left on the road",
        "the road with the right of way",
        "the tanks on top of the building",
        "the top of the hill",
        "the lower building",
        "the top floor",
        "West Street",
        "the Left Bank",
        "the northbound lane",
        "the topsoil",
        "the second row from the left",
        "the car at 3 o'clock",
        "the roof with the letter H",
        "das Gebäude links",
        "the left north barn",
        "the left top bottom barn and the leftover one",
    ],
)
def test_uncertain_queries_are_refused_unless_no_direction_changes(query):
    assert all(
        directions.redirected(query, view.direction) is None
        for view in (UPSIDE_DOWN, ImageView(None, False, 2))
    )
    assert directions.redirected(query, ImageView().direction) == query


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))
def test_two_flips_and_four_turns_restore_the_query(words):
    query = " and ".join(f"the {word} barn" for word in words)
    for view in (LEFT_RIGHT, UPSIDE_DOWN, ImageView(None, False, 2)):
        once = directions.redirected(query, view.direction)
        assert directions.redirected(once, view.direction) == query
        assert once != query or view in (LEFT_RIGHT, UPSIDE_DOWN)
    turned = query
    for _ in range(4):
        turned = directions.redirected(turned, QUARTER.direction)
    # By way of left and right, which have no upper and lower of their own.
    assert turned == query or "uppermost" in query


@pytest.mark.parametrize("query", ["the red barn", "storage tank", "segment the forest", "vehicles"])
def test_a_query_that_names_a_kind_of_object_holds_in_a_part(query):
    assert directions.holds_in_a_part(query)


@pytest.mark.parametrize(
    "query",
    [
        "the largest barn",
        "leftmost tank",
        "barn near the pond",
        "both cars",
        "the car in the middle",
        "a small barn",
        "the second car",
        "the only tree",
        "the barn that stands alone",
        "car above the road",
        "das große Gebäude",
    ],
)
def test_a_query_that_depends_on_the_full_image_does_not_hold_in_a_part(query):
    assert not directions.holds_in_a_part(query)
