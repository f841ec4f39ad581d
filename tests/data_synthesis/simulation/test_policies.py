import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage import measure

from geoclick.clicks import Click
from geoclick.data_synthesis.simulation.policies import POLICIES, Clicker, click_rng, propose
from geoclick.distance import distance_transform
from geoclick.segmenters.center_rule import next_click
from tests.small_masks import blank, box

MAPS = arrays(bool, (7, 8))
CLICKED = st.lists(st.builds(Click, st.integers(0, 7), st.integers(0, 6), st.booleans()), max_size=6)
CLICKERS = st.builds(
    Clicker,
    policy=st.sampled_from(sorted(POLICIES)),
    tie=st.sampled_from(["negative", "positive"]),
    positive_only=st.booleans(),
    jitter=st.integers(0, 3),
    candidates=st.integers(1, 9),
)


def disc(x, y, radius, height=12, width=16):
    ys, xs = np.ogrid[:height, :width]
    return (xs - x) ** 2 + (ys - y) ** 2 <= radius**2


def ask(clicker, target, prediction=None, clicked=(), valid=None, turn=0):
    prediction = np.zeros_like(target) if prediction is None else prediction
    return propose(clicker, target, prediction, clicked, valid, click_rng(0, "a", 1, turn))


def many(clicker, target, prediction=None, count=400):
    """The first click of many sequences."""
    return [ask(clicker, target, prediction, turn=turn)[0] for turn in range(count)]


@given(CLICKERS, MAPS, MAPS, MAPS, CLICKED, st.integers(0, 5))
def test_every_click_lies_on_an_unclicked_wrong_pixel_of_its_sign(
    clicker, target, prediction, valid, clicked, turn
):
    clicks = ask(clicker, target, prediction, clicked, valid, turn)
    wrong = (target & ~prediction if clicker.positive_only else target != prediction) & valid
    for x, y, _ in clicked:
        wrong[y, x] = False
    assert bool(clicks) == bool(wrong.any())
    assert len(clicks) == len(set(clicks)) <= (clicker.candidates if clicker.policy == "lookahead" else 1)
    for click in clicks:
        assert wrong[click.y, click.x]
        assert target[click.y, click.x] == click.positive
        assert [type(value) for value in click] == [int, int, bool]


@given(MAPS, MAPS, MAPS, CLICKED)
def test_center_is_next_click(target, prediction, valid, clicked):
    expected = next_click(target, prediction, clicked, valid)
    assert ask(Clicker(), target, prediction, clicked, valid) == ([] if expected is None else [expected])


@given(MAPS, MAPS, MAPS, CLICKED)
def test_the_tie_rule_decides_ties_only(target, prediction, valid, clicked):
    negative, positive = (
        ask(Clicker(tie=tie), target, prediction, clicked, valid) for tie in ("negative", "positive")
    )
    if negative == positive:
        return
    (below,), (above,) = negative, positive
    assert (below.positive, above.positive) == (False, True)
    missed, surplus = (
        distance_transform(a & ~b & valid) for a, b in ((target, prediction), (prediction, target))
    )
    assert surplus[below.y, below.x] == missed[above.y, above.x]


def test_a_tie_has_the_sign_of_the_option():
    masks = box(1, 1, 4, 4), box(6, 6, 9, 9)
    assert ask(Clicker(tie="negative"), *masks) == [Click(7, 7, False)]
    assert ask(Clicker(tie="positive"), *masks) == [Click(2, 2, True)]


def test_positive_only_sees_no_surplus():
    masks = box(1, 1, 3, 3), box(6, 6, 11, 11)
    assert ask(Clicker(), *masks) == [Click(8, 8, False)]
    assert ask(Clicker(positive_only=True), *masks) == [Click(1, 1, True)]
    assert ask(Clicker(positive_only=True), blank(), box(6, 6, 11, 11)) == []


@pytest.mark.parametrize("policy", ["center", "random", "robust"])
def test_the_other_switches_leave_one_click(policy):
    assert len(ask(Clicker(policy, jitter=2, candidates=9), box(1, 1, 9, 9))) == 1


def test_random_is_uniform_over_missed_and_surplus_together():
    target, prediction = box(0, 0, 1, 4), box(5, 0, 6, 12)
    clicks = many(Clicker("random"), target, prediction, count=3200)
    places = np.unique([(c.x, c.y) for c in clicks], axis=0, return_counts=True)[1]
    assert len(places) == 16
    # 200 a pixel are expected, with a standard deviation of 14.
    assert places.min() > 130
    assert places.max() < 270
    assert {c.positive for c in clicks} == {True, False}


def test_robust_spreads_around_the_center_by_the_distance_to_the_border():
    target = disc(20, 20, 12, 41, 41)
    distance = np.hypot(*(np.array([(c.x, c.y) for c in many(Clicker("robust"), target)]).T - 20))
    uniform = np.hypot(*(np.array([(c.x, c.y) for c in many(Clicker("random"), target)]).T - 20))
    # In a disc the means are half and two thirds of the radius.
    assert distance.mean() == pytest.approx(6, abs=0.8)
    assert uniform.mean() == pytest.approx(8, abs=0.8)


@given(MAPS, MAPS, st.integers(0, 50))
def test_robust_stays_in_the_connected_region_of_the_center(target, prediction, turn):
    center = ask(Clicker(), target, prediction)
    if not center:
        return
    ((x, y, positive),) = center
    wrong = target & ~prediction if positive else prediction & ~target
    regions = measure.label(wrong, connectivity=2)
    (click,) = ask(Clicker("robust"), target, prediction, turn=turn)
    assert click.positive == positive
    assert regions[click.y, click.x] == regions[y, x] > 0


@given(MAPS, MAPS, MAPS, CLICKED, st.integers(1, 9))
def test_lookahead_begins_with_the_center(target, prediction, valid, clicked, candidates):
    clicks = ask(Clicker("lookahead", candidates=candidates), target, prediction, clicked, valid)
    assert clicks[:1] == ask(Clicker(), target, prediction, clicked, valid)


def test_lookahead_takes_the_centers_of_the_largest_regions_of_both_signs():
    target = box(0, 0, 7, 7) | box(9, 0, 10, 1)
    prediction = box(0, 10, 5, 15) | box(8, 12, 11, 15)
    clicks = ask(Clicker("lookahead", candidates=4), target, prediction)
    # One of four is sampled; the smallest region is left out.
    assert clicks[:3] == [Click(3, 3, True), Click(12, 2, False), Click(13, 9, False)]
    assert len(clicks) <= 4
    assert ask(Clicker("lookahead", candidates=1), target, prediction) == [Click(3, 3, True)]


def test_lookahead_samples_more_where_there_is_one_region():
    assert len(ask(Clicker("lookahead", candidates=6), box(0, 0, 12, 16))) >= 4


def near(a, b, pixels):
    return (a.x - b.x) ** 2 + (a.y - b.y) ** 2 <= pixels**2


@given(MAPS, MAPS, CLICKED, st.integers(1, 4), st.integers(0, 50))
def test_jitter_moves_no_farther_than_asked_within_the_connected_region(
    target, prediction, clicked, pixels, turn
):
    before = ask(Clicker(), target, prediction, clicked)
    after = ask(Clicker(jitter=pixels), target, prediction, clicked, turn=turn)
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        assert new.positive == old.positive
        assert near(old, new, pixels)
        wrong = target & ~prediction if old.positive else prediction & ~target
        regions = measure.label(wrong, connectivity=2)
        assert regions[old.y, old.x] == regions[new.y, new.x] > 0


def test_jitter_reaches_all_its_pixels_and_no_other_region():
    target = box(4, 4, 9, 9) | box(4, 10, 9, 12)
    clicks = set(many(Clicker(jitter=4), target, count=600))
    assert {(c.x, c.y) for c in clicks} == {(x, y) for x in range(4, 9) for y in range(4, 9)}


def test_random_numbers_depend_on_seed_sample_sequence_and_click():
    made = [(0, "a", 1, 0), (1, "a", 1, 0), (0, "b", 1, 0), (0, "a", 2, 0), (0, "a", 1, 1), (0, "a1", 0, 0)]
    assert len({click_rng(*key).random() for key in made}) == len(made)
    assert click_rng(*made[0]).random() == click_rng(*made[0]).random()


def test_records_name_what_differs_from_the_default():
    assert (Clicker().rule, Clicker().switches) == ("centre", "")
    other = Clicker("lookahead", "positive", True, True, 3, 8)
    assert (other.rule, other.switches) == (
        "lookahead-8",
        "+tie-positive+positive-only+keep-improving+jitter-3",
    )


@pytest.mark.parametrize(
    ("clicker", "expected"),
    [
        (Clicker(), False),
        (Clicker(jitter=1), True),
        (Clicker("random"), True),
        (Clicker("robust"), True),
        (Clicker("lookahead", candidates=1), False),
        (Clicker("lookahead", candidates=2), True),
        (Clicker("lookahead"), True),
    ],
)
def test_is_random_agrees_with_the_clicks(clicker, expected):
    found = {tuple(ask(clicker, box(0, 0, 9, 9), turn=turn)) for turn in range(20)}
    assert clicker.is_random == expected == (len(found) > 1)
