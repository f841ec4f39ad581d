"""Rows that are rendered when they are read are those that were rendered before the first step."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from geoclick import store, vlms
from geoclick.train.augmentation.augment import Augmentation
from geoclick.train.data import chats, rows
from geoclick.train.data.lazy_rows import JoinedRows
from geoclick.train.data.token_lengths import token_lengths
from tests import tiny
from tests.train import eager_rows


@pytest.fixture(scope="module", params=tiny.FOLDERS)
def vlm(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return vlms.load(str(tiny.FOLDERS[request.param](folder)), device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A store of three shards with images of two sizes, and chats with no, one and two images."""
    folder = tmp_path_factory.mktemp("data")
    clicks, root = tiny.click_store(folder, rows=14)
    found = list(store.read(clicks))
    for index in range(3):
        some = [replace(row, query=f"{row.query} {n}") for n, row in enumerate(found[index::3])]
        store.write_shard(folder / "shards", index, 3, some)
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Question {n}?"},
                {"role": "assistant", "content": "Yes."},
            ],
            "images": [[], ["0000.png"], ["0001.png", "0000.png"]][n % 3],
        }
        for n in range(5)
    ]
    path = root / "train/images/talk.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "shards", root, path


def lazy(data, vlm, **options):
    values = {"answer_format": "compact", "max_clicks": 6, "min_iou": 0.0} | options
    return rows.build(*data[:2], vlm, **values)


@pytest.mark.parametrize("answer_format", ["json", "compact"])
@pytest.mark.parametrize("limits", [{}, {"max_clicks": 1, "min_iou": 0.65}])
def test_rows_of_a_store_are_those_of_eager_rendering(vlm, data, answer_format, limits):
    found, _ = lazy(data, vlm, answer_format=answer_format, **limits)
    expected = eager_rows.of_store(*data[:2], vlm, answer_format=answer_format, **limits)
    assert eager_rows.same(found, expected)
    again = pickle.loads(pickle.dumps(found))
    assert again[len(found) - 1] == expected[len(expected) - 1]


def test_held_out_rows_are_counted_whatever_else_is_wrong_with_them(vlm, data):
    stored = list(store.read(data[0]))
    bad = [row for row in stored if row.clicks and row.ious[-1] < 0.65]
    out = {bad[0].image}
    found, left_out = lazy(data, vlm, min_iou=0.65, held_out=out)
    held_out = sum(row.image in out for row in stored)
    assert left_out == {
        "held out": held_out,
        "below min_iou": sum(row.image not in out for row in bad),
    }
    assert len(found) == len(stored) - sum(left_out.values())
    assert eager_rows.same(found, eager_rows.of_store(*data[:2], vlm, min_iou=0.65, held_out=out))


def test_lengths_are_those_of_the_rows_and_come_from_the_cache(vlm, data, monkeypatch):
    found, _ = lazy(data, vlm)
    expected = token_lengths(found, vlm.processor)
    assert found.token_lengths(vlm.processor) == expected
    out = {next(store.read(data[0])).image}
    some, _ = lazy(data, vlm, held_out=out)
    rendered = []
    of_batch = rows.ClickRows.__getitems__
    monkeypatch.setattr(
        rows.ClickRows, "__getitems__", lambda self, many: rendered.extend(many) or of_batch(self, many)
    )
    images = [found.images(index)[0] for index in range(len(found))]
    left = {some.images(index)[0][0] for index in range(len(some))}
    assert some.token_lengths(vlm.processor) == [
        length for length, (path,) in zip(expected, images, strict=True) if path in left
    ]
    # A few rows, whose tokens are part of the name of the cached file.
    assert len(set(rendered)) == len(rendered) <= 16


@pytest.mark.parametrize("kinds", [("flip", "crop"), ("shuffle",)])
def test_augmented_rows_and_their_longest_lengths(vlm, data, kinds):
    change = Augmentation(vlm.processor, vlm.family, "compact", kinds, 0.3, 1)
    found, _ = lazy(data, vlm, raw=True)
    expected = eager_rows.of_store(*data[:2], vlm, raw=True)
    assert eager_rows.same(found, expected, without=("prompt_ids", "completion_ids"))
    assert [change(row, 2) for row in found] == [change(row, 2) for row in expected]
    longest = token_lengths(map(change.longest, expected), vlm.processor)
    assert found.token_lengths(vlm.processor, change) == longest
    assert found.token_lengths(vlm.processor) == token_lengths(expected, vlm.processor)


def test_chats_and_several_sources(vlm, data):
    talk, _ = chats.build(data[2], data[2].parent, vlm)
    eager = eager_rows.of_chats(data[2], data[2].parent, vlm)
    assert eager_rows.same(talk, eager)
    clicked, _ = lazy(data, vlm)
    both = JoinedRows([clicked, talk, clicked])
    expected = [{**row, "source": n} for n, part in enumerate((clicked, eager, clicked)) for row in part]
    assert list(both) == expected
    order = np.random.default_rng(0).permutation(len(both)).tolist()
    assert both.__getitems__(order) == [expected[index] for index in order]
    assert list(both.select(order[:7])) == [expected[index] for index in order[:7]]
    assert both.token_lengths(vlm.processor) == token_lengths(expected, vlm.processor)
    assert both.has_texts
    assert not clicked.has_texts
    groups = both.groups()
    same_group = [
        (a["images"] == b["images"] and bool(a["images"])) or i == j
        for i, a in enumerate(expected)
        for j, b in enumerate(expected)
    ]
    assert same_group == [a == b for a in groups for b in groups]
    sizes = both.image_sizes()
    assert {path for row in expected for path in row["images"]} == sizes.keys()
