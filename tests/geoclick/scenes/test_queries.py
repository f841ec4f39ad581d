import itertools
from dataclasses import replace

import numpy as np
import pytest

from geoclick.scenes import SIZE, generate, render
from geoclick.scenes.kinds import KINDS
from geoclick.scenes.queries import MIN_AREA, Fact, Rule, answer, ask, matches, observe, rephrase

TASKS = ("referring", "reasoning", "no_target")


@pytest.fixture(scope="module")
def asked():
    """(pixels seen per object, facts, query) of many scenes, the pixels counted here and not by the library."""
    found = []
    for seed in range(60):
        scene = generate((99, seed))
        _, ids = render(scene)
        facts, rng = observe(scene, ids), np.random.default_rng(seed)
        seen = [(thing, np.argwhere(ids == i + 1)) for i, thing in enumerate(scene.objects)]
        found += [(seen, facts, query) for task in TASKS if (query := ask(facts, rng, task))]
    return found


def fits(rule, seen):
    """An independent reading of a rule on raw pixels: the indices of the objects that satisfy it."""
    there = {i: (t, p) for i, (t, p) in enumerate(seen) if len(p)}
    found = [i for i, (t, p) in there.items() if t.kind == rule.kind and rule.color in (None, t.color)]
    middle = {i: p.mean(0)[::-1] for i, (t, p) in there.items()}
    if rule.place:
        vertical, horizontal = rule.place.split()
        found = [i for i in found if (middle[i][1] < SIZE / 2) == (vertical == "top")]
        found = [i for i in found if (middle[i][0] < SIZE / 2) == (horizontal == "left")]
    if rule.neighbor:
        (anchor,) = [i for i, (t, _) in there.items() if t.kind == rule.neighbor]
        found = sorted(found, key=lambda i: np.linalg.norm(middle[i] - middle[anchor]))[:1]
    if rule.extreme:
        measure = {
            "largest": lambda i: -len(there[i][1]),
            "smallest": lambda i: len(there[i][1]),
            "leftmost": lambda i: middle[i][0],
            "rightmost": lambda i: -middle[i][0],
            "topmost": lambda i: middle[i][1],
            "bottommost": lambda i: -middle[i][1],
        }[rule.extreme]
        found = sorted(found, key=measure)[:1]
    return found


def test_every_query_has_exactly_its_answer(asked):
    assert len(asked) > 150
    for seen, _, query in asked:
        assert fits(query.rule, seen) == list(query.targets), query


def test_every_target_can_be_seen(asked):
    assert all(len(seen[target][1]) >= MIN_AREA for seen, _, query in asked for target in query.targets)


def test_tasks_are_what_they_say(asked):
    for _, _, query in asked:
        assert (query.task == "no_target") == (not query.targets)
        kind = KINDS[query.rule.kind]
        if query.task == "referring":
            assert kind.name in query.text
        if query.task == "reasoning":
            assert not set(kind.words) & set(query.text.replace(",", "").split())
            assert any(purpose in query.text for purpose in kind.purposes)


def test_the_words_say_the_rule(asked):
    for _, _, query in asked:
        for part in (query.rule.color, query.rule.place, query.rule.extreme, query.rule.neighbor):
            assert part is None or part in query.text


def test_all_forms_occur(asked):
    rules = [query.rule for _, _, query in asked if query.task == "referring"]
    for part in ("color", "place", "extreme", "neighbor"):
        assert any(getattr(rule, part) for rule in rules), part


def test_too_close_to_call_is_no_answer():
    left = Fact(0, "building", "red", 400, 100.0, 50.0)
    for gap, clear in ((5.0, False), (30.0, True)):
        facts = [left, replace(left, index=1, x=100.0 + gap)]
        assert (answer(Rule("building", extreme="leftmost"), facts) == left) is clear
    on_the_line = replace(left, x=SIZE / 2 - 3, y=40.0)
    assert answer(Rule("building", place="top left"), [on_the_line]) is None


def test_a_rule_that_names_an_ambiguous_neighbor_has_no_single_answer():
    pond = Fact(0, "pond", "blue", 900, 50.0, 50.0)
    trees = [Fact(i, "tree", "green", 200, 40.0 * i, 60.0) for i in (1, 2)]
    rule = Rule("tree", neighbor="pond")
    assert answer(rule, [pond, *trees]) is None or len(matches(rule, [pond, *trees])) == 1
    assert answer(rule, [pond, replace(pond, index=5, x=200.0), *trees]) is None


@pytest.mark.parametrize(("extreme", "place"), itertools.product((None, "largest"), (None, "top left")))
def test_an_empty_scene_has_no_answer(extreme, place):
    assert answer(Rule("tree", extreme=extreme, place=place), []) is None
    assert ask([], np.random.default_rng(0), "referring") is None
    assert ask([], np.random.default_rng(0), "no_target").targets == ()


def test_other_words_are_for_the_same_rule(asked):
    rng = np.random.default_rng(0)
    changed = 0
    for _, _, query in asked:
        texts = [rephrase(query, rng) for _ in range(4)]
        changed += texts != [query.text] * 4
        for text in texts:
            named = {word for word in KINDS[query.rule.kind].words if word in text.split()}
            assert bool(named) == (query.task != "reasoning")
            for part in (query.rule.extreme, query.rule.place, query.rule.neighbor):
                assert part is None or part in text
    assert changed > 0.9 * len(asked)
