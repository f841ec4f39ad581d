"""Events change a session, and a refused one leaves it as it was."""

import gc
import json
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoclick.clicks import Click
from geoclick.codec import Part
from geoclick.errors import GeoClickError, UsageError
from geoclick.geo.reading import DEFAULT
from geoclick.inference.app import models, options, pictures
from geoclick.inference.app.handlers import Handlers
from geoclick.inference.app.models import AppModels
from geoclick.inference.app.options import AppOptions
from geoclick.inference.app.saving import Corrections
from geoclick.inference.app.sources import Limits
from geoclick.inference.backends.base import Reply
from geoclick.inference.generative.settings import Generation
from geoclick.inference.pipeline import Pipeline
from tests.inference.app.conftest import SIZE


class Scripted:
    """A backend that answers with a click at the place that a query names."""

    def refusal(self, size):
        return ""

    def answer(self, images, queries):
        return [Reply(query) for query in queries]

    def read(self, text, size):
        from geoclick.codec import decode

        return decode(text, family="qwen3_vl", answer_format="compact", image_size=size)


class ScriptedPipeline(Pipeline):
    @property
    def backend(self):
        return Scripted()


@pytest.fixture
def handlers(segmenter, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, value in (("a", 40), ("b", 200)):
        pixels = np.random.default_rng(value).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    pipeline = ScriptedPipeline(None, segmenter, Generation(answer_format="compact"))
    shared = AppModels(pipeline, AppOptions(), Limits(1, 1))
    return Handlers(shared, Corrections(tmp_path / "out", DEFAULT), folder)


@pytest.fixture
def asked(handlers):
    session = handlers.choose("a.png", None).session
    handlers.ask("+(500,500)", False, session)
    return session


def edit(handlers, session, **words):
    """An edit as the editor sends it."""
    before = sum(len(part.clicks) for part in session.layer.parts)
    return handlers.edit(
        {"key": session.key, "layer": session.chosen, "before": before, "seq": 1, **words}, session
    )


def test_an_image_is_chosen_and_asked(handlers):
    shown = handlers.choose("a.png", None)
    assert "64x48 pixels" in shown.status
    assert "image" in shown.drawn
    shown = handlers.ask("+(500,500) -(100,100)", False, shown.session)
    assert [one.positive for one in shown.session.layer.parts[0].clicks] == [True, False]
    assert len(shown.drawn["clicks"]) == 2
    assert "image" not in shown.drawn


def test_edits_follow_each_other(handlers, asked):
    for one in (
        {"kind": "add", "x": 3.2, "y": 4.4, "positive": False, "part": 0},
        {"kind": "move", "number": 1, "x": 9, "y": 8},
        {"kind": "flip", "number": 1},
        {"kind": "add", "x": 30, "y": 30, "positive": True, "part": 1},
    ):
        assert "error" not in edit(handlers, asked, **one).status
    assert asked.layer.parts[0].clicks[1] == Click(9, 8)
    assert asked.layer.parts[1] == Part((Click(30, 30),))
    edit(handlers, asked, kind="delete", number=0)
    assert [len(part.clicks) for part in asked.layer.parts] == [1, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"kind": "delete", "number": 0, "layer": 2},
        {"kind": "delete", "number": 0, "before": 2},
        {"kind": "delete", "number": 0, "before": None},
        {"kind": "explode"},
        {"kind": "delete", "number": 0, "key": "of another image"},
        {"kind": "add", "x": "3", "y": 4, "part": 0},
        {"kind": "add", "x": 300, "y": 4, "positive": True, "part": 0},
        {"kind": "move", "number": 7, "x": 1, "y": 1},
        {"kind": "delete", "number": float("nan")},
        {"kind": "delete", "number": 10**400},
        {"kind": "add", "x": 1, "y": 1, "positive": True, "part": 9},
    ],
)
def test_a_wrong_edit_changes_nothing(handlers, asked, wrong):
    before = asked.layer
    shown = edit(handlers, asked, **wrong)
    assert "status error" in shown.status
    assert asked.layer is before


def test_an_edit_names_its_session(handlers, asked):
    other = handlers.choose("b.png", None).session
    sent = {"kind": "add", "x": 9, "y": 9, "positive": True, "part": 0, "key": asked.key, "seq": 3}
    body, decoding = handlers.answer_edit(json.dumps({**sent, "layer": 1, "before": 1}).encode())
    answer = json.loads(body)
    assert decoding > 0
    assert [one["x"] for one in answer["drawn"]["clicks"]] == [asked.layer.parts[0].clicks[0].x, 9]
    assert answer["drawn"]["mask"] == pictures.overlay(asked, complete=False)["mask"]
    assert answer["drawn"]["seq"] == 3
    assert "2 clicks" in answer["status"]
    assert not answer["lists"]
    assert other.layers == []
    # The clicks have changed since this one was sent.
    answer = json.loads(handlers.answer_edit(json.dumps({**sent, "layer": 1, "before": 1}).encode())[0])
    assert "status error" in answer["status"]
    assert len(answer["drawn"]["clicks"]) == 2
    part = {**sent, "x": 30, "layer": 1, "before": 2, "part": 1}
    assert json.loads(handlers.answer_edit(json.dumps(part).encode())[0])["lists"]
    assert len(handlers.lists(asked).layers) == 1


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"3", b'{"key": []}', b"\xff", b"[" * 100_000, b'{"key": "x"}', b'{"kind": "add"}']
)
def test_what_names_no_session_changes_none(handlers, asked, body):
    before = asked.layer
    answer = json.loads(handlers.answer_edit(body)[0])
    assert answer["drawn"] is None
    assert "status error" in answer["status"]
    assert asked.layer is before


def test_an_edit_of_a_session_that_ended_is_refused(handlers):
    session = handlers.choose("a.png", None).session
    handlers.ask("+(500,500)", False, session)
    body = {"kind": "flip", "number": 0, "key": session.key, "layer": 1, "before": 1}
    del session
    gc.collect()
    assert "open it again" in json.loads(handlers.answer_edit(json.dumps(body).encode())[0])["status"]


def test_refused_images_leave_the_session(handlers, asked, tmp_path):
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0" + bytes(50))
    for shown in (handlers.upload(str(broken), asked), handlers.choose("../../etc/passwd", asked)):
        assert shown.session is asked
        assert "status error" in shown.status
        assert str(tmp_path) not in shown.status


@pytest.mark.parametrize("query", ["", "   ", "x" * 501])
def test_wrong_queries_are_refused(handlers, asked, query):
    shown = handlers.ask(query, False, asked)
    assert "status error" in shown.status
    assert len(asked.layers) == 1


def test_a_query_is_shown_as_text(handlers, asked):
    shown = handlers.ask('<script>alert("x")</script>', False, asked)
    assert "<script>" not in shown.status
    assert "&lt;script&gt;" in shown.status


def test_a_class_list_is_no_file(handlers, asked, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    shown, _ = handlers.map(f"{secret}: red; {secret}", asked)
    assert "the secret" not in shown.status
    assert "status error" in shown.status


def test_nothing_works_without_an_image(handlers):
    for shown in (handlers.ask("a", False, None), handlers.edit({}, None), handlers.save(None)):
        assert "Open an image first" in shown.status
    assert handlers.download(None)[0] == []


def test_a_saved_correction_is_counted(handlers, asked):
    assert "is saved; 1 row in all" in handlers.save(asked).status
    assert "replaces the earlier one" in handlers.save(asked).status


def test_downloads_hold_what_is_shown(handlers, asked):
    edit(handlers, asked, kind="add", x=30, y=30, positive=True, part=1)
    paths, line = handlers.download(asked)
    names = {path.rpartition("/")[2]: path for path in paths}
    assert set(names) == {"a.mask.png", "a.overlay.png", "a.json"}
    assert "no polygons, since it is not georeferenced" in line
    assert ((np.asarray(Image.open(names["a.mask.png"])) > 0) == asked.layer.decoded.mask).all()
    record = json.loads(Path(names["a.json"]).read_text(encoding="utf-8"))
    assert record["edited"]
    assert [one["part"] for one in record["clicks"]] == [1, 2]
    assert len(record["parts"]) == 2
    assert record["image"] == "a.png"


def test_downloads_are_gone_when_the_answer_changes(handlers, asked):
    paths, _ = handlers.download(asked)
    assert not handlers.save(asked).is_stale
    assert all(map(Path.is_file, map(Path, paths)))
    assert edit(handlers, asked, kind="flip", number=0).is_stale
    assert not any(map(Path.exists, map(Path, paths)))


def test_an_upload_may_be_deleted_after_it_is_opened(handlers, tmp_path):
    upload = tmp_path / "upload.png"
    upload.write_bytes((tmp_path / "images/a.png").read_bytes())
    session = handlers.upload(str(upload), None).session
    upload.unlink()
    handlers.ask("+(500,500)", False, session)
    assert "is saved" in handlers.save(session).status


def test_lists_are_sent_where_they_change(handlers, asked):
    assert edit(handlers, asked, kind="flip", number=0).layers is None
    assert edit(handlers, asked, kind="add", x=30, y=30, positive=True, part=1).layers is not None
    assert handlers.parts([0], asked).session.layer.hidden == {1}


def test_users_do_not_share_anything(handlers):
    """Ten threads, each with a session of its own, edit at the same time."""
    sessions = [handlers.choose("ab"[n % 2] + ".png", None).session for n in range(10)]
    for n, session in enumerate(sessions):
        handlers.ask(f"+({100 + 50 * n},500)", False, session)

    def work(n):
        for step in range(20):
            shown = edit(handlers, sessions[n], kind="add", x=n, y=step, positive=True, part=0)
            assert "error" not in shown.status
        handlers.save(sessions[n])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, session in enumerate(sessions):
        assert session.layer.parts[0].clicks[1:] == tuple(Click(n, step) for step in range(20))
    assert len(handlers.corrections) == 10


def test_options_without_a_meaning_are_refused(tmp_path):
    for wrong in (
        {"decode": "first"},
        {"samples": 4, "temperature": 0.7},
        {"port": 70000},
        {"bands": (1, 2)},
    ):
        with pytest.raises(UsageError):
            options.check(AppOptions(**wrong))
    with pytest.raises(GeoClickError, match="is not a folder"):
        options.check(AppOptions(images=str(tmp_path / "none")))


def test_an_address_in_use_is_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(GeoClickError, match=f"cannot listen on 127.0.0.1:{port}.*another --port"):
            options.check_address(AppOptions(port=port))
    options.check_address(AppOptions(port=port))
    for host in ("no such host", "a..b", "\u00e4" * 100):
        with pytest.raises(GeoClickError, match="cannot listen on"):
            options.check_address(AppOptions(host=host))


def test_gradio_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(options, "find_spec", lambda name: None)
    with pytest.raises(GeoClickError, match=r"pip install geoclick\[app\]"):
        options.check_installed()


def test_texts_have_limits():
    assert models.checked("  a  ", 3, "query") == "a"
    assert pictures.css((255, 0, 16)) == "#ff0010"
