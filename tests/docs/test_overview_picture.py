"""The picture of the README is made from a finished demo."""

import importlib.util

import numpy as np
import pytest

from tests.inference.evaluated import record, square
from tests.paths import REPO

SIZE = (40, 40)
MASK = square(10, 10, 8, SIZE)


@pytest.fixture(scope="module")
def overview():
    spec = importlib.util.spec_from_file_location("overview", REPO / "docs/pictures/overview.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(task, ious, parts=1):
    """Answers to queries of their own about images of their own."""
    return [
        record(
            f"{task}{n}",
            MASK,
            MASK,
            task=task,
            query=f"{task} {n}",
            image=f"{task}{n}.png",
            parts=[{}] * parts if parts > 1 else [],
        )
        | {"iou": iou}
        for n, iou in enumerate(ious)
    ]


def test_each_kind_of_query_is_shown_with_good_answers_only(overview):
    predictions = [
        one
        for task, _ in overview.QUERIES
        for one in answers(
            task,
            [0.95, 0.4, 0.9, 0.85, 0.1],
            overview.PARTS if task in overview.SEVERAL else 1,
        )
    ]
    found = overview.chosen(predictions)
    assert [one["task"] for one in found] == [task for task, count in overview.QUERIES for _ in range(count)]
    assert min(one["iou"] for one in found) >= overview.LEAST
    # The one in the middle.
    assert found[0]["iou"] == 0.9
    assert len({one["image"] for one in found}) == len(found)


def test_answers_of_several_objects_have_parts(overview):
    few, many = answers("hard", [0.9]), answers("all_of_a_kind", [0.9, 0.95], overview.PARTS)
    rest = [
        one for task in ("referring", "reasoning", "no_target") for one in answers(task, [0.9, 0.8])
    ] + answers("several_by_purpose", [0.9, 0.85], overview.PARTS)
    single = [one | {"image": "x.png", "query": "x"} for one in answers("all_of_a_kind", [0.99])]
    found = overview.chosen([*few, *many, *rest, *single])
    assert all(one["parts"] for one in found if one["task"] in overview.SEVERAL)


def test_rows_are_below_their_headings(overview):
    cells = [overview.cell("the road", np.full((256, 256, 3), 90, np.uint8))] * 5
    picture = overview.sheet([("first", cells), ("second", cells[:1])])
    width = overview.COLUMNS * (overview.SIDE + overview.GAP) - overview.GAP
    height = 3 * (overview.SIDE + overview.CAPTION + overview.GAP) + 2 * overview.HEADING
    assert picture.shape == (height, width, 3)
