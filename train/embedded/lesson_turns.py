"""Questions of the lessons about the objects of a scene, with their answers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from geoclick.clicks import Click
from geoclick.codec import encode
from geoclick.prompts import INSTRUCTIONS
from geoclick.scenes import SIZE
from geoclick.scenes.kinds import KINDS
from geoclick.scenes.queries import Query, ask
from geoclick.scenes.varied_queries import ask_varied
from geoclick.train.embedded.scene_cache import VisibleObject

COUNTING = "How many: {query}"
"""The counting question, answered with digits, or with `none`."""

VARIED_TASKS = {
    "referring": 0.2,
    "reasoning": 0.1,
    "hard": 0.15,
    "all_of_a_kind": 0.35,
    "several_by_purpose": 0.2,
}
"""Shares of the tasks of pointing questions about scenes of version 2; the last two are about several objects."""


@dataclass(frozen=True)
class Turn:
    """A question and its answer.

    Attributes:
        question: the user's text.
        answer: the assistant's text.
        objects: indexes of the objects that each part of the answer is about.
        points: the pixel (x, y) of the click of each part; None for a counting question, whose answer is one part.
    """

    question: str
    answer: str
    objects: tuple[tuple[int, ...], ...]
    points: tuple[tuple[int, int] | None, ...]

    def parts_of(self, ends: Sequence[int]) -> np.ndarray:
        """The index of the part that each token of the answer belongs to, int64 [tokens].

        The token that separates two parts belongs to the second one: it announces it. Tokens after the last part belong
        to the last one.

        Args:
            ends: the position in the answer's text at which each token ends.
        """
        clicks = [match.end() for match in re.finditer(r"[)}]", self.answer)]  # each ends with such a bracket
        return np.minimum(np.searchsorted(clicks, ends), len(self.objects) - 1)


def rotate_and_mirror(item: VisibleObject, quarter_turns: int, mirror: bool) -> VisibleObject:
    """An object after quarter turns (those of np.rot90) and, if `mirror`, a flip from left to right."""
    x, y, (px, py), last = item.fact.x, item.fact.y, item.point, SIZE - 1
    for _ in range(quarter_turns):
        (x, y), (px, py) = (y, last - x), (py, last - px)
    if mirror:
        x, px = last - x, last - px
    return VisibleObject(replace(item.fact, x=x, y=y), (px, py))


def pointing_turn(
    objects: Sequence[VisibleObject], rng: np.random.Generator, answer_format: str, reasoning: float
) -> Turn | None:
    """A question for one click, described by purpose with probability `reasoning`; None if there is none to ask."""
    facts = [item.fact for item in objects]
    query = ask(facts, rng, "reasoning" if rng.random() < reasoning else "referring")
    return _turn(query, objects, answer_format) if query else None


def varied_turn(
    objects: Sequence[VisibleObject], rng: np.random.Generator, answer_format: str
) -> Turn | None:
    """A question of a task of VARIED_TASKS, or of another one if the scene allows none of it; None without any."""
    facts, shares = [item.fact for item in objects], list(VARIED_TASKS.values())
    for task in rng.choice(list(VARIED_TASKS), len(shares), replace=False, p=shares):
        query = ask_varied(facts, rng, str(task))
        if query:
            return _turn(query, objects, answer_format)
    return None


def _turn(query: Query, objects: Sequence[VisibleObject], answer_format: str) -> Turn:
    """A query with one click on each of its targets, from left to right."""
    points = {item.fact.index: item.point for item in objects}
    targets = sorted(query.targets, key=points.__getitem__)
    answer = encode(
        [(Click(*points[target]),) for target in targets],
        family="qwen3_vl",
        answer_format=answer_format,
        image_size=(SIZE, SIZE),
    )
    return Turn(
        INSTRUCTIONS[answer_format].format(query=query.text),
        answer,
        tuple((target,) for target in targets),
        tuple(points[target] for target in targets),
    )


def counting_turn(objects: Sequence[VisibleObject], rng: np.random.Generator) -> Turn:
    """A question for the number of objects of a kind, or of a kind and color; half of the time there are none."""
    with_color = rng.random() < 0.5
    visible = {(item.fact.kind, item.fact.color if with_color else None) for item in objects}
    countable = {
        (name, color)
        for name, kind in KINDS.items()
        for color in (kind.colors if with_color else (None,))
        if not with_color or len(kind.colors) > 1
    }
    present, absent = (
        sorted(pairs, key=lambda pair: (pair[0], pair[1] or ""))
        for pairs in (visible & countable, countable - visible)
    )
    candidates = absent if absent and (not present or rng.random() < 0.5) else present
    name, color = candidates[int(rng.integers(len(candidates)))]
    counted = tuple(
        item.fact.index for item in objects if item.fact.kind == name and color in (None, item.fact.color)
    )
    query = f"{color} {name}" if color else name
    return Turn(COUNTING.format(query=query), str(len(counted)) if counted else "none", (counted,), (None,))
