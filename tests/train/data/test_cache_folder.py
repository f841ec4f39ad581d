import multiprocessing
import time
from pathlib import Path

import pytest

from geoclick.errors import GeoClickError
from geoclick.train.data import cache_folder


def test_the_folder_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GEOCLICK_CACHE", str(tmp_path / "own"))
    assert cache_folder.folder() == tmp_path / "own"
    monkeypatch.delenv("GEOCLICK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder.folder() == tmp_path / "geoclick"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder.folder() == Path.home() / ".cache/geoclick"


def test_a_name_depends_on_all_of_the_content():
    contents = [["a", 1], ["a", 2], ["a", "1"], {"a": 1}, {"a": 1, "b": None}]
    assert len({cache_folder.key(content) for content in contents}) == len(contents)
    assert cache_folder.key({"a": 1, "b": 2}) == cache_folder.key({"b": 2, "a": 1})


def test_a_file_that_fails_is_not_there_and_the_next_one_makes_it(tmp_path):
    path = tmp_path / "deep" / "file"
    with pytest.raises(ZeroDivisionError), cache_folder.missing(path) as partial:
        partial.write_text("half") / 0
    assert not path.exists()
    with cache_folder.missing(path) as partial:
        partial.write_text("all")
    assert path.read_text() == "all"
    with cache_folder.missing(path) as partial:
        assert partial is None


def make(path, started, made):
    """Make a file slowly, and count who did."""
    started.wait()
    with cache_folder.missing(path) as partial:
        if partial is not None:
            made.value += 1
            time.sleep(0.3)
            partial.write_text("all")
    assert path.read_text() == "all"


def test_one_of_several_processes_makes_a_file_and_the_others_wait(tmp_path):
    context = multiprocessing.get_context("fork")
    started, made = context.Event(), context.Value("i", 0)
    others = [context.Process(target=make, args=(tmp_path / "file", started, made)) for _ in range(4)]
    for other in others:
        other.start()
    started.set()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0] * 4
    assert made.value == 1


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(GeoClickError, match=r"is not writable .*; set GEOCLICK_CACHE to another folder"),
        cache_folder.missing(tmp_path / "file" / "inside"),
    ):
        pass
