"""Scenes of version 2: groups and hard objects, and queries whose targets follow from the objects without doubt."""

import json
from collections import Counter

import numpy as np
import pytest

from geoclick import masks
from geoclick.scenes import render, run
from geoclick.scenes.drawing import VARIED_TASKS, sample_scene
from geoclick.scenes.outlines import fill
from geoclick.scenes.queries import MIN_AREA, observe
from geoclick.scenes.special_objects import FEATURES, VISIBLE
from geoclick.scenes.varied_layout import generate_varied
from geoclick.scenes.varied_queries import COUNTABLE, PURPOSES, Selection, ask_varied, selected


@pytest.fixture(scope="module")
def scenes():
    layouts = [generate_varied((7, i)) for i in range(60)]
    return [(layout, render(layout)[1]) for layout in layouts]


@pytest.fixture(scope="module")
def asked(scenes):
    """(facts, query) of all tasks of some scenes."""
    found = []
    for number, (scene, ids) in enumerate(scenes):
        facts, rng = observe(scene, ids), np.random.default_rng(number)
        found += [(facts, query) for task in VARIED_TASKS if (query := ask_varied(facts, rng, task))]
    return found


def test_the_same_seed_gives_the_same_scene():
    first, again = (sample_scene(3, "test", 0, VARIED_TASKS, version=2) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert first[2] == again[2]
    assert not np.array_equal(first[0], sample_scene(3, "test", 1, VARIED_TASKS, version=2)[0])


def test_every_feature_and_task_occurs(scenes, asked):
    features = Counter(thing.feature for scene, _ in scenes for thing in scene.objects)
    assert all(features[feature] >= 5 for feature in FEATURES)
    tasks = Counter(query.task for _, query in asked)
    assert all(tasks[task] >= 25 for task in VARIED_TASKS), tasks


def test_holes_belong_to_the_ground(scenes):
    rings = [(t, i, ids) for scene, ids in scenes for i, t in enumerate(scene.objects) if t.hole is not None]
    assert len(rings) >= 5
    for ring, index, ids in rings:
        assert not (fill(ring.hole) & (ids == index + 1)).any()
        assert ring.shape == "ring-shaped"


def test_hidden_objects_are_partly_visible(scenes):
    for scene, ids in scenes:
        for index, thing in enumerate(scene.objects):
            if thing.feature == "hidden":
                share = (ids == index + 1).sum() / thing.cover.sum()
                assert share <= VISIBLE[1] + 0.01


def test_targets_of_plural_queries_are_all_objects_meant(asked):
    for facts, query in asked:
        if query.task == "several_by_purpose":
            assert query.kinds in PURPOSES
            assert query.targets == tuple(f.index for f in facts if f.kind in query.kinds)
            assert any(purpose in query.text for purpose in PURPOSES[query.kinds])
        if query.task == "all_of_a_kind":
            (kind,) = query.kinds
            assert f"{kind}s" in query.text
            chosen = [f for f in facts if f.index in query.targets]
            assert len(chosen) >= 2
            assert all(f.kind == kind and f.area >= MIN_AREA for f in chosen)
            others = [f for f in facts if f.kind == kind and f.index not in query.targets]
            if query.text.split()[-1] == f"{kind}s" and not any(
                f" {f.color} " in f" {query.text} " for f in chosen
            ):
                assert not others
            if "next to the road" in query.text:
                assert max(f.road_gap for f in chosen) < min((f.road_gap for f in others), default=np.inf)


def test_a_query_without_a_target_names_what_is_absent(asked):
    for facts, query in asked:
        if query.task == "no_target" and query.rule is None:
            (kind,) = query.kinds
            colors = {f.color for f in facts if f.kind == kind}
            assert not colors or not any(color in query.text.split() for color in colors)


def test_an_object_in_doubt_forbids_the_query(asked):
    facts = next(facts for facts, query in asked if query.task == "all_of_a_kind")
    kind = next(f.kind for f in facts if f.kind in COUNTABLE)
    of_kind = [f for f in facts if f.kind == kind]
    assert (
        selected(Selection(kind), [*facts, type(of_kind[0])(99, kind, "red", MIN_AREA - 1, 0.0, 0.0)]) is None
    )
    assert selected(Selection(kind, color="red"), [type(of_kind[0])(99, kind, "", 500, 0.0, 0.0)]) is None


def test_rows_hold_the_objects_of_a_target(tmp_path):
    assert run.main([str(tmp_path), "--count", "12", "--version", "2"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "train/samples.jsonl").read_text().splitlines()]
    assert [row["task"] for row in rows[:6]] == list(VARIED_TASKS)
    for row in rows:
        assert (row["task"] == "hard") == ("feature" in row)
        assert (len(row.get("instances", ())) >= 2) == (
            row["task"] in ("all_of_a_kind", "several_by_purpose")
        )
        if "instances" in row:
            parts = [masks.decode_rle(one) for one in row["instances"]]
            assert np.array_equal(np.sum(parts, axis=0) > 0, masks.decode_rle(row["mask"]))
            assert np.sum(parts, axis=0).max() == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(("--tasks", "hard"), "add --version 2"), (("--version", "3"), "--version is 1 or 2, not 3")],
)
def test_tasks_need_their_version(tmp_path, capsys, words, sentence):
    assert run.main([str(tmp_path), *words]) == 2
    assert sentence in capsys.readouterr().err
