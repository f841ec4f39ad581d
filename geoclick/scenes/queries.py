"""Queries about a scene with exactly one target, or none, and the check that this is so.

A query is a `Rule` (kind, color, shape, place, extreme, neighbor) phrased as text. `matches` evaluates a rule on the
visible objects; it also returns every object that nearly matches, so that a rule with a single match is unambiguous.
"""

from dataclasses import dataclass, replace

import numpy as np

from geoclick.scenes.kinds import KINDS
from geoclick.scenes.layout import Scene
from geoclick.scenes.outlines import SIZE

MIN_AREA = 40
"""Fewest visible pixels of a target."""

EXTREMES = {
    "largest": lambda fact: -(fact.area**0.5),
    "smallest": lambda fact: fact.area**0.5,
    "leftmost": lambda fact: fact.x,
    "rightmost": lambda fact: -fact.x,
    "topmost": lambda fact: fact.y,
    "bottommost": lambda fact: -fact.y,
}
"""The value that each superlative minimizes, in pixels (sizes as the side of a square of the same area)."""

MARGIN = {"largest": 6, "smallest": 6} | dict.fromkeys(("leftmost", "rightmost", "topmost", "bottommost"), 14)
"""By how many pixels the second best object must differ."""

PLACES = ("top left", "top right", "bottom left", "bottom right")
PLACE_MARGIN = 12
"""Distance from the image's center lines, in pixels, from which a center is clearly in one quarter."""

NEIGHBORS = ("building", "pond", "field", "sports court", "storage tank", "bare land")
"""Kinds that a relation may refer to: compact objects."""
NEIGHBOR_RATIO = 1.35
"""How many times farther the second nearest object must be."""

REFERRING = ("the {}", "{}", "find the {}", "segment the {}")
REASONING = ("{}", "find {}", "{} in this image", "show me {}")


@dataclass(frozen=True)
class Fact:
    """The visible part of one object.

    Attributes:
        index: of the object in the scene.
        kind, color, shape, feature: as in `Thing`.
        area, x, y: its area in pixels and its center.
        road_gap: distance to the nearest road in pixels; None without a road, and in scenes of version 1.
    """

    index: int
    kind: str
    color: str
    area: int
    x: float
    y: float
    shape: str = ""
    feature: str = ""
    road_gap: float | None = None


@dataclass(frozen=True)
class Rule:
    """A condition on objects; None means any."""

    kind: str
    color: str | None = None
    place: str | None = None
    extreme: str | None = None
    neighbor: str | None = None
    shape: str | None = None


@dataclass(frozen=True)
class Query:
    """A query about a scene.

    Attributes:
        text: as a user would write it.
        task: of TASKS in drawing.py.
        kinds: of the objects that it asks for.
        targets: their indices in the scene; none for a query without a target.
        rule: that identifies a single target, or none.
        feature: what makes the target hard, see `Thing`.
    """

    text: str
    task: str
    kinds: tuple[str, ...]
    targets: tuple[int, ...]
    rule: Rule | None = None
    feature: str = ""


def observe(scene: Scene, ids: np.ndarray) -> list[Fact]:
    """The visible objects of a rendered scene; `ids` as returned by `render`."""
    rows, columns = np.indices(ids.shape)
    count = np.bincount(ids.ravel(), minlength=len(scene.objects) + 1)
    x = np.bincount(ids.ravel(), columns.ravel(), minlength=len(count)) / np.maximum(count, 1)
    y = np.bincount(ids.ravel(), rows.ravel(), minlength=len(count)) / np.maximum(count, 1)
    gaps = _road_gaps(scene, ids) if scene.version == 2 else {}
    return [
        Fact(
            *(i, thing.kind, thing.color, int(count[i + 1]), float(x[i + 1]), float(y[i + 1])),
            *(thing.shape, thing.feature, gaps.get(i)),
        )
        for i, thing in enumerate(scene.objects)
        if count[i + 1]
    ]


def _road_gaps(scene: Scene, ids: np.ndarray) -> dict[int, float]:
    """The distance of each object to the nearest road, in pixels; empty without a road."""
    from scipy import ndimage

    roads = [i + 1 for i, thing in enumerate(scene.objects) if thing.kind == "road"]
    if not np.isin(ids, roads).any():
        return {}
    distance = ndimage.distance_transform_edt(~np.isin(ids, roads))
    numbers = np.unique(ids[ids > 0])
    return {
        int(n) - 1: float(gap)
        for n, gap in zip(numbers, ndimage.minimum(distance, ids, numbers), strict=True)
    }


def in_place(fact: Fact, place: str, slack: float) -> bool:
    """Whether the center of an object lies in a quarter of the image, some pixels from the image's center lines."""
    dx, dy = fact.x - SIZE / 2, fact.y - SIZE / 2
    return (-dy if "top" in place else dy) > slack and (-dx if "left" in place else dx) > slack


def matches(rule: Rule, facts: list[Fact]) -> list[Fact]:
    """The objects that satisfy a rule, and those that nearly do."""
    found = [f for f in facts if f.kind == rule.kind and (rule.color in (None, f.color) or not f.color)]
    found = [f for f in found if rule.shape in (None, f.shape)]
    if rule.place:
        found = [f for f in found if in_place(f, rule.place, -PLACE_MARGIN)]
    if rule.neighbor:
        anchors = [f for f in facts if f.kind == rule.neighbor]
        if len(anchors) != 1:
            return facts if anchors else []
        distance = {f.index: np.hypot(f.x - anchors[0].x, f.y - anchors[0].y) for f in found}
        nearest = min(distance.values(), default=0)
        found = [
            f for f in found if distance[f.index] < nearest * NEIGHBOR_RATIO or distance[f.index] == nearest
        ]
    if rule.extreme and found:
        best = min(map(EXTREMES[rule.extreme], found))
        found = [f for f in found if EXTREMES[rule.extreme](f) <= best + MARGIN[rule.extreme]]
    return found


def answer(rule: Rule, facts: list[Fact]) -> Fact | None:
    """The one object that a rule identifies without ambiguity, or None."""
    found = matches(rule, facts)
    if len(found) != 1 or found[0].area < MIN_AREA:
        return None
    if rule.place and not in_place(found[0], rule.place, PLACE_MARGIN):
        return None
    return found[0]


def _phrase(rule: Rule, name: str) -> str:
    """A rule as a phrase, with a name for its kind."""
    words = " ".join(filter(None, (rule.extreme, rule.shape, rule.color, name)))
    if rule.place:
        words += f" in the {rule.place}"
    if rule.neighbor:
        words += f" closest to the {rule.neighbor}"
    return words


def referring(rule: Rule, rng: np.random.Generator) -> str:
    """A rule in words, by the name of its kind."""
    return str(rng.choice(REFERRING)).format(_phrase(rule, rule.kind))


def _reasoning(rule: Rule, rng: np.random.Generator) -> str:
    text = str(rng.choice(REASONING)).format(rng.choice(KINDS[rule.kind].purposes))
    if rule.extreme:
        text += f", the {rule.extreme} one"
    if rule.place:
        text += f", the one in the {rule.place}"
    return text


def _candidates(fact: Fact, facts: list[Fact], rng: np.random.Generator, *, by_purpose: bool) -> list[Rule]:
    """Rules that may identify an object, in random order; the kind alone comes first in seven of ten cases."""
    bare = Rule(fact.kind)
    rules = [replace(bare, extreme=e) for e in EXTREMES] + [replace(bare, place=p) for p in PLACES]
    if not by_purpose:
        if fact.color and len(KINDS[fact.kind].colors) > 1:
            colored = replace(bare, color=fact.color)
            rules += [colored] * 6 + [replace(colored, place=p) for p in PLACES]
        rules += [replace(bare, neighbor=k) for k in NEIGHBORS if k != fact.kind]
    rng.shuffle(rules)
    return [bare, *rules] if rng.random() < 0.7 else [*rules, bare]


def _positive(facts: list[Fact], rng: np.random.Generator, task: str) -> Query | None:
    by_purpose = task == "reasoning"
    targets = [f for f in facts if f.area >= MIN_AREA]
    # A kind first, then one object of it: otherwise trees and vehicles, of which there are many, would dominate.
    kinds = sorted({f.kind for f in targets})
    rng.shuffle(kinds)
    for kind in kinds:
        of_kind = [f for f in targets if f.kind == kind]
        fact = of_kind[int(rng.integers(len(of_kind)))]
        for rule in _candidates(fact, facts, rng, by_purpose=by_purpose):
            if answer(rule, facts) == fact and not _is_redundant(rule, facts):
                text = _reasoning(rule, rng) if by_purpose else referring(rule, rng)
                return Query(text, task, (kind,), (fact.index,), rule)
    return None


def _is_redundant(rule: Rule, facts: list[Fact]) -> bool:
    """Whether a superlative or relation describes the only object of its kind, which nobody would say."""
    return bool(rule.extreme or rule.neighbor) and sum(f.kind == rule.kind for f in facts) == 1


def _absent(facts: list[Fact], rng: np.random.Generator) -> Query | None:
    """A query for a kind that the scene lacks, or for a color that no object of the kind has."""
    present = {f.kind for f in facts}
    shades = {(f.kind, f.color) for f in facts}
    rules = [Rule(kind) for kind in KINDS if kind not in present]
    rules += [
        Rule(kind, color=color)
        for kind in sorted(present)
        for color in KINDS[kind].colors
        if len(KINDS[kind].colors) > 1 and (kind, color) not in shades and (kind, "") not in shades
    ]
    if not rules:
        return None
    # Absent kinds and absent colors equally often, whatever the scene contains.
    parts = [part for part in ([r for r in rules if not r.color], [r for r in rules if r.color]) if part]
    part = parts[int(rng.integers(len(parts)))]
    rule = part[int(rng.integers(len(part)))]
    by_purpose = rule.color is None and rng.random() < 0.5
    text = _reasoning(rule, rng) if by_purpose else referring(rule, rng)
    return Query(text, "no_target", (rule.kind,), (), rule)


def rephrase(query: Query, rng: np.random.Generator) -> str:
    """Another phrasing of a query with a rule: by purpose for a reasoning query, otherwise by name."""
    if query.rule is None:
        return query.text
    return _reasoning(query.rule, rng) if query.task == "reasoning" else referring(query.rule, rng)


def ask(facts: list[Fact], rng: np.random.Generator, task: str) -> Query | None:
    """A query of a task (`referring`, `reasoning`, `no_target`) about a scene, or None if there is none."""
    return _absent(facts, rng) if task == "no_target" else _positive(facts, rng, task)
