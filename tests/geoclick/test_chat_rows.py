import time
from collections import Counter
from dataclasses import replace

import pytest

from geoclick import chat_rows, codec, prompts, store
from geoclick.clicks import Click
from geoclick.errors import GeoClickError
from tests import tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.click_store(tmp_path_factory.mktemp("data"), rows=10, side=100)


def test_usable_rows_come_in_order_and_the_others_are_counted(data):
    rows, left_out = list(store.read(data[0])), Counter()
    usable = list(chat_rows.usable(rows, max_clicks=2, min_iou=0.55, left_out=left_out))
    expected = [row for row in rows if not row.clicks or row.ious[:2][-1] >= 0.55]
    assert [one.row for one in usable] == expected
    assert [one.clicks for one in usable] == [row.clicks[:2] for row in expected]
    assert 0 < len(expected) < len(rows)
    assert left_out == {"below min_iou": len(rows) - len(expected)}


def test_answers_are_cut_in_one_place(data, monkeypatch):
    """A row is judged by the IoU of the clicks that are kept."""
    monkeypatch.setattr(chat_rows, "_used", lambda row, most, end: list(range(len(row.clicks)))[: most - 1])
    left_out = Counter()
    usable = list(chat_rows.usable(store.read(data[0]), max_clicks=3, min_iou=0.55, left_out=left_out))
    assert usable
    for one in usable:
        assert one.clicks == one.row.clicks[:2]
        assert not one.clicks or one.row.ious[len(one.clicks) - 1] >= 0.55


@pytest.mark.parametrize(
    ("ious", "max_clicks", "best"),
    [
        ([0.5, 0.7, 0.6], 6, 2),
        ([0.7, 0.7, 0.6], 6, 1),
        ([0.5, 0.7, 0.9], 2, 2),
        ([0.8, 0.7, 0.9], 2, 1),
        ([0.1], 1, 1),
        ([], 6, 0),
    ],
)
def test_an_answer_ends_at_its_best_click_or_at_the_last_one(data, ious, max_clicks, best):
    clicks = tuple(Click(x, 0) for x in range(len(ious)))
    row = replace(next(store.read(data[0])), clicks=clicks, ious=tuple(ious), parts=())
    assert chat_rows.answer_parts(row, max_clicks) == tuple(filter(None, [clicks[:best]]))
    assert chat_rows.answer_parts(row, max_clicks, "last") == tuple(filter(None, [clicks[:max_clicks]]))


def test_an_answer_in_parts_takes_the_first_clicks_of_each_part(data):
    clicks = tuple(Click(x, 0) for x in range(6))
    ious = (0.1, 0.2, 0.3, 0.4, 0.9, 0.5)
    row = replace(next(store.read(data[0])), clicks=clicks, ious=ious, parts=(3, 2, 1))
    assert chat_rows.answer_parts(row, 6, "last") == (clicks[:3], clicks[3:5], clicks[5:])
    assert chat_rows.answer_parts(row, 6) == (clicks[:3], clicks[3:5])
    assert chat_rows.answer_parts(row, 1, "last") == (clicks[:1], clicks[3:4], clicks[5:])
    assert chat_rows.answer_parts(row, 1) == (clicks[:1], clicks[3:4], clicks[5:])
    assert chat_rows.answer_parts(row, 2) == (clicks[:2], clicks[3:5])


def test_the_time_is_linear_in_the_number_of_parts(data):
    count, start = 20_000, time.process_time()
    clicks = tuple(Click(float(n % 64), 1.0, True) for n in range(count))
    row = replace(next(store.read(data[0])), clicks=clicks, parts=(1,) * count, ious=(0.5,) * count)
    assert chat_rows.answer_parts(row, 3, "last") == tuple((click,) for click in clicks)
    assert time.process_time() - start < 5


def test_a_target_without_clicks_is_left_out(data):
    rows, left_out = list(store.read(data[0])), Counter()
    row = replace(next(row for row in rows if row.clicks), clicks=(), ious=(), parts=())
    assert list(chat_rows.usable([row], max_clicks=2, min_iou=0.0, left_out=left_out)) == []
    assert left_out == {"no clicks for a target": 1}


def test_each_image_is_looked_up_once(data, monkeypatch):
    calls, is_regular = [], chat_rows._is_regular
    monkeypatch.setattr(chat_rows, "_is_regular", lambda path: calls.append(path) or is_regular(path))
    images, names = chat_rows.ImagePaths(data[1]), [row.image for row in store.read(data[0])]
    paths = [images[name] for name in names]
    assert paths == [str((data[1] / name).resolve()) for name in names]
    assert len(calls) == len(images) == len(set(names)) < len(names)
    with pytest.raises(GeoClickError, match="does not exist"):
        images["missing.png"]


def test_links_are_followed_inside_the_root_only(tmp_path):
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a/file.png").touch()
    (tmp_path / "secret.png").touch()
    (root / "a/link.png").symlink_to("file.png")
    (root / "b").symlink_to("a")
    (root / "a/out.png").symlink_to(tmp_path / "secret.png")
    (root / "out").symlink_to(tmp_path)
    images = chat_rows.ImagePaths(root)
    file = str((root / "a/file.png").resolve())
    for name in ("a/file.png", "a/link.png", "b/file.png", "b/link.png", "a/../a/file.png", "./a//file.png"):
        assert images[name] == file
    for name in ("a/out.png", "out/secret.png", "../secret.png", "/etc/hostname"):
        with pytest.raises(GeoClickError, match="leads out of"):
            images[name]
    for name in ("a", "a/..", "a/.", "", "a/none.png", "a/file.png/x"):
        with pytest.raises(GeoClickError):
            images[name]


@pytest.mark.parametrize("family", codec.FAMILIES)
def test_a_chat_asks_the_prompt_and_answers_the_clicks(data, family):
    row = next(row for row in store.read(data[0]) if row.clicks)
    frame = codec.Frame(family, "json", (row.height, row.width), resized_size=(112, 112))
    user, assistant = chat_rows.chat(row.query, row.clicks, frame)
    assert [user] == prompts.messages(row.query, answer_format="json")
    assert assistant["content"] == [{"type": "text", "text": frame.encode(row.clicks)}]


@pytest.mark.parametrize(
    ("given", "end", "expected"),
    [
        # The answer ends with the best click, but not before the last given one.
        (0, "best", ((0, 1),)),
        (3, "best", ((0, 1, 2), (3,))),
        (4, "best", ((0, 1, 2), (3,))),
        (5, "best", ((0, 1, 2), (3, 4), (6,))),
        # All given clicks are in it, although a part has at most two otherwise.
        (3, "last", ((0, 1, 2), (3, 4), (6,))),
    ],
)
def test_given_clicks_are_never_cut(data, given, end, expected):
    clicks = tuple(Click(x, 0) for x in range(7))
    ious = (0.1, 0.7, 0.3, 0.6, 0.5, 0.2, 0.55)
    row = replace(next(store.read(data[0])), clicks=clicks, ious=ious, parts=(3, 3, 1), given=given)
    numbers = tuple(tuple(int(click.x) for click in part) for part in chat_rows.answer_parts(row, 2, end))
    assert numbers == expected
