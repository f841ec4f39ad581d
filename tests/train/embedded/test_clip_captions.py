"""Captions of the embedded CLIP: true ones are true, changed ones are wrong, by words, colors and counts."""

import numpy as np
import pytest

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.train.embedded.clip_captions import (
    CHANGES,
    Caption,
    Claim,
    Counts,
    describe,
    nearly_true,
    phrase,
    possible,
)
from geoclick.train.embedded.clip_words import (
    ABSENT,
    BACKGROUND,
    CATEGORIES,
    CATEGORY_INDEX,
    MEANINGS,
    colors_of,
    named,
)


def row(**objects):
    counts = np.zeros((1, len(CATEGORIES)), np.int64)
    for name, number in objects.items():
        kind, _, color = name.rpartition("_")
        counts[0, CATEGORY_INDEX[kind.replace("_", " "), color]] = number
    return counts


def holds(*claims, fewest, most=None):
    caption = Caption("", claims, "{}")
    return bool(possible([caption], Counts(fewest, fewest if most is None else most))[0, 0])


def test_a_claim_holds_by_word_color_and_count():
    view = row(building_red=2, tree_green=1, grass_=1)
    assert holds(Claim("house"), fewest=view)
    assert holds(Claim("roof", "red", 2), Claim("forest"), Claim("meadow"), fewest=view)
    assert not holds(Claim("roof", "white"), fewest=view)
    assert not holds(Claim("building", count=1), fewest=view)
    assert not holds(Claim("building"), Claim("pond"), fewest=view)
    assert not any(holds(Claim(word), fewest=view) for word in ("ship", "dog", "paving"))


def test_what_may_be_true_is_possible():
    fewest, most = row(building_red=1), row(building_red=2, vehicle_blue=1)
    assert all(holds(Claim("building", count=n), fewest=fewest, most=most) for n in (1, 2))
    assert not holds(Claim("building", count=3), fewest=fewest, most=most)
    assert holds(Claim("car"), fewest=fewest, most=most)
    # A word that may name another kind as well.
    assert holds(Claim("vegetation"), fewest=row(tree_green=1))
    assert not named("vegetation", None)[0][CATEGORY_INDEX["tree", "green"]]


def test_several_captions_and_views_at_once():
    counts = Counts(*[np.concatenate([row(pond_blue=1), row(road_grey=1)])] * 2)
    captions = [
        Caption("", (Claim("water"),), "{}"),
        Caption("", (), "{}"),
        Caption("", (Claim("road"), Claim("lake")), "{}"),
    ]
    assert possible(captions, counts).tolist() == [[True, False], [True, True], [False, False]]


@pytest.mark.parametrize("change", CHANGES)
def test_random_captions_are_true_and_their_changes_are_wrong(change):
    rng = np.random.default_rng(0)
    changed = 0
    for _ in range(60):
        fewest = (rng.random((1, len(CATEGORIES))) < 0.15) * rng.integers(1, 4, (1, len(CATEGORIES)))
        counts = Counts(fewest, fewest)
        caption = describe(fewest[0], fewest[0], rng)
        assert possible([caption], counts).all()
        wrong = nearly_true(caption, counts, rng, change)
        if wrong:
            changed += 1
            assert not possible([wrong], counts).any()
            assert len(wrong.claims) == len(caption.claims)
            assert wrong.text != caption.text
    assert changed >= 10


def test_phrases():
    assert phrase(Claim("bus", count=2)) == "two buses"
    assert phrase(Claim("building", "red", 1)) == "one red building"
    assert phrase(Claim("building", "orange"), article=True) == "an orange building"
    assert phrase(Claim("water"), article=True) == "water"
    assert phrase(Claim("car", "blue"), many=True) == "blue cars"
    assert colors_of("road") == []
    assert "red" in colors_of("truck")


def test_the_class_names_of_all_benchmarks_have_a_meaning():
    words = {w for b in BENCHMARKS.values() for prompts in b.prompts for w in prompts}
    assert words <= {*MEANINGS, *BACKGROUND}
    assert not any(MEANINGS[word].kinds for word in ABSENT)
