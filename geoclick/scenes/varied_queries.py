"""Queries of version 2: about all objects of a kind, about several by their purpose, and about hard objects.

A query for several objects is asked only if every object clearly is one of them, or clearly is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from geoclick.scenes.kinds import KINDS
from geoclick.scenes.queries import (
    EXTREMES,
    MIN_AREA,
    PLACE_MARGIN,
    PLACES,
    REASONING,
    Fact,
    Query,
    Rule,
    answer,
    ask,
    in_place,
    referring,
)

COUNTABLE = tuple(kind for kind in KINDS if kind not in ("bare land", "road"))
"""Kinds that queries in the plural are about."""

MAX_TARGETS = 12
"""Most objects of a query."""

NEAR_ROAD, FAR_FROM_ROAD = 22.0, 40.0
"""Objects up to the one distance in pixels are next to a road, those from the other one are not."""

PLURAL_ABSENT = 0.4
"""Share of the queries without a target that are in the plural."""

ALL = ("all {}", "the {}", "all the {}", "find all {}", "segment every one of the {}")

PURPOSES = {
    ("storage tank",): (
        "what must be watched in a fire",
        "all vessels that hold oil",
        "everything that a refinery would fill",
    ),
    ("vehicle",): (
        "everything that could drive away",
        "whatever needs a parking space",
        "all that would be stuck in a traffic jam",
    ),
    ("building",): (
        "all places where people could sleep tonight",
        "everything that has rooms inside",
        "whatever needs a roofer after a hailstorm",
    ),
    ("tree",): (
        "everything that offers shade to a walker",
        "what a storm could uproot",
        "wherever birds could nest",
    ),
    ("sports court",): (
        "all places where a match could be played",
        "whatever a coach would book for training",
    ),
    ("field", "tree"): ("everything that grows", "whatever needs rain to stay alive"),
    ("storage tank", "vehicle"): ("everything that holds fuel", "all that could leak oil"),
    ("building", "storage tank"): (
        "all that was built and rises above the ground",
        "every structure with walls",
    ),
    ("building", "vehicle"): ("everything with doors and windows", "all that a burglar could break into"),
    ("pond", "storage tank"): ("whatever is filled with a liquid",),
}
"""Phrases for several objects, by the kinds that they mean; all visible objects of these kinds are the targets."""


@dataclass(frozen=True)
class Selection:
    """Which objects a query in the plural asks for; None means any.

    Attributes:
        kind: a key of COUNTABLE.
        color: a color word.
        place: of PLACES.
        next_to_road: whether only those next to a road are meant.
    """

    kind: str
    color: str | None = None
    place: str | None = None
    next_to_road: bool = False

    def phrase(self) -> str:
        """The selection in words, in the plural."""
        words = " ".join(filter(None, (self.color, f"{self.kind}s")))
        return (
            words
            + (" next to the road" if self.next_to_road else "")
            + (f" in the {self.place}" if self.place else "")
        )


def selected(selection: Selection, facts: Sequence[Fact]) -> list[Fact] | None:
    """The objects that a selection means; None if it is not clear of one of them."""
    chosen = []
    for fact in facts:
        if fact.kind != selection.kind:
            continue
        decisions = [_decide_color(fact, selection.color), _decide_place(fact, selection.place)]
        if selection.next_to_road:
            decisions.append(_decide_road(fact))
        if False in decisions:
            continue
        if None in decisions or fact.area < MIN_AREA:
            return None
        chosen.append(fact)
    return chosen


def _decide_color(fact: Fact, color: str | None) -> bool | None:
    """Whether an object has a color; None if its color has no clear name."""
    return True if color is None else fact.color == color if fact.color else None


def _decide_place(fact: Fact, place: str | None) -> bool | None:
    """Whether the center of an object lies in a quarter of the image; None near its border."""
    if place is None or in_place(fact, place, PLACE_MARGIN):
        return True
    return None if in_place(fact, place, -PLACE_MARGIN) else False


def _decide_road(fact: Fact) -> bool | None:
    """Whether an object is next to a road; None between near and far."""
    if fact.road_gap is None or fact.road_gap >= FAR_FROM_ROAD:
        return False
    return True if fact.road_gap <= NEAR_ROAD else None


def all_of_a_kind(facts: Sequence[Fact], rng: np.random.Generator) -> Query | None:
    """A query for all objects of a kind, or all of them with a color, in a place or next to the road."""
    kinds = sorted({f.kind for f in facts} & set(COUNTABLE))
    rng.shuffle(kinds)
    for kind in kinds:
        for selection in _selections(kind, facts, rng):
            chosen = selected(selection, facts)
            if chosen and 2 <= len(chosen) <= MAX_TARGETS and not _says_too_much(selection, chosen, facts):
                text = str(rng.choice(ALL)).format(selection.phrase())
                return Query(text, "all_of_a_kind", (kind,), tuple(f.index for f in chosen))
    return None


def _selections(kind: str, facts: Sequence[Fact], rng: np.random.Generator) -> list[Selection]:
    """Selections of a kind in random order; the kind alone comes first in four of ten cases."""
    bare = Selection(kind)
    colors = sorted({f.color for f in facts if f.kind == kind and f.color})
    some = [replace(bare, color=color) for color in colors] * 2
    some += [replace(bare, place=place) for place in PLACES] + [replace(bare, next_to_road=True)] * 3
    rng.shuffle(some)
    return [bare, *some] if rng.random() < 0.4 else [*some, bare]


def _says_too_much(selection: Selection, chosen: Sequence[Fact], facts: Sequence[Fact]) -> bool:
    """Whether the kind alone means the same objects."""
    return selection != Selection(selection.kind) and len(chosen) == sum(
        f.kind == selection.kind for f in facts
    )


def several(facts: Sequence[Fact], rng: np.random.Generator) -> Query | None:
    """A query for several objects by their purpose; they are of one kind or of two."""
    groups = [kinds for kinds in PURPOSES if all(any(f.kind == kind for f in facts) for kind in kinds)]
    for number in rng.permutation(len(groups)):
        kinds = groups[number]
        chosen = [f for f in facts if f.kind in kinds]
        if 2 <= len(chosen) <= MAX_TARGETS and all(f.area >= MIN_AREA for f in chosen):
            text = str(rng.choice(REASONING)).format(rng.choice(PURPOSES[kinds]))
            return Query(text, "several_by_purpose", kinds, tuple(f.index for f in chosen))
    return None


def hard(facts: Sequence[Fact], rng: np.random.Generator) -> Query | None:
    """A query for one object that is hard to segment; the features are drawn before the objects."""
    features = sorted({f.feature for f in facts if f.feature and f.area >= MIN_AREA})
    rng.shuffle(features)
    for feature in features:
        members = [f for f in facts if f.feature == feature and f.area >= MIN_AREA]
        fact = members[int(rng.integers(len(members)))]
        for rule in _single_rules(fact, rng):
            if answer(rule, list(facts)) == fact:
                text = referring(rule, rng)
                return Query(text, "hard", (fact.kind,), (fact.index,), rule, feature)
    return None


def _single_rules(fact: Fact, rng: np.random.Generator) -> list[Rule]:
    """Rules that may identify an object, in random order, those with its shape first."""
    bare = Rule(fact.kind)
    rules = [replace(bare, extreme=extreme) for extreme in EXTREMES] + [
        replace(bare, place=place) for place in PLACES
    ]
    if fact.color and len(KINDS[fact.kind].colors) > 1:
        rules += [replace(bare, color=fact.color)] * 4
        rules += [replace(bare, color=fact.color, place=place) for place in PLACES]
    rng.shuffle(rules)
    shaped = [replace(bare, shape=fact.shape)] if fact.shape else []
    return [*shaped, bare, *rules]


def absent(facts: Sequence[Fact], rng: np.random.Generator) -> Query | None:
    """A query in the plural for a kind that the scene lacks, or for a color that no object of the kind has."""
    present = {f.kind for f in facts}
    colorless = {f.kind for f in facts if not f.color}
    shades = {(f.kind, f.color) for f in facts}
    kinds = [Selection(kind) for kind in COUNTABLE if kind not in present]
    colored = [
        Selection(kind, color)
        for kind in COUNTABLE
        for color in KINDS[kind].colors
        if kind in present - colorless and len(KINDS[kind].colors) > 1 and (kind, color) not in shades
    ]
    options = [group for group in (kinds, colored) if group]
    if not options:
        return None
    group = options[int(rng.integers(len(options)))]
    selection = group[int(rng.integers(len(group)))]
    return Query(str(rng.choice(ALL)).format(selection.phrase()), "no_target", (selection.kind,), ())


def ask_varied(facts: Sequence[Fact], rng: np.random.Generator, task: str) -> Query | None:
    """A query of a task (those of `ask`, `all_of_a_kind`, `several_by_purpose` or `hard`), or None if there is none."""
    if task == "no_target" and rng.random() < PLURAL_ABSENT:
        return absent(facts, rng)
    if task in ("referring", "reasoning", "no_target"):
        return ask(list(facts), rng, task)
    asked = {"all_of_a_kind": all_of_a_kind, "several_by_purpose": several, "hard": hard}
    return asked[task](facts, rng)
