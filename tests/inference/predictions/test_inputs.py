"""The images that the command line and lists name."""

import json
import os

import pytest

from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.predictions.inputs import expand


@pytest.fixture
def folder(tmp_path):
    for name in (
        "b.png",
        "a.TIF",
        "c.jpeg",
        "notes.txt",
        ".hidden.png",
        "d.mask",
        "sub/e.png",
        "sub/deep/f.png",
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "in"


def names(found):
    return [image.path.name for image in found.images]


def test_a_folder_gives_its_images_and_says_what_it_leaves_out(folder):
    found = expand([str(folder)], None, ("x",))
    assert names(found) == ["a.TIF", "b.png", "c.jpeg"]
    assert found.notes == [f"{folder}: 3 images; 2 other files are left out."]
    assert {image.texts for image in found.images} == {("x",)}
    (folder / "empty").mkdir()
    with pytest.raises(GeoClickError, match=r"holds no images directly in it; .*empty/\*\*/\*.tif"):
        expand([str(folder / "empty")], None, ("x",))


def test_globs_match_files_at_any_depth(folder, monkeypatch):
    assert names(expand([f"{folder}/*.png"], None, ("x",))) == ["b.png"]
    assert names(expand([f"{folder}/**/*.png"], None, ("x",))) == ["b.png", "f.png", "e.png"]
    monkeypatch.chdir(folder)
    assert names(expand(["[ac]*"], None, ("x",))) == ["a.TIF", "c.jpeg"]
    # A file whose name looks like a pattern is that file.
    (folder / "x[1].png").touch()
    assert names(expand(["x[1].png"], None, ("x",))) == ["x[1].png"]
    with pytest.raises(GeoClickError, match="No file matches"):
        expand(["*.gif"], None, ("x",))


def test_a_file_that_occurs_twice_is_answered_once(folder):
    file = str(folder / "b.png")
    found = expand([file, str(folder), file], None, ("x", "y"))
    assert names(found) == ["b.png", "a.TIF", "c.jpeg"]
    assert "2 inputs occur more than once with the same query and are answered once." in found.notes


def test_a_list_of_paths(folder, tmp_path):
    listed = tmp_path / "files.txt"
    listed.write_text(f"{folder}/b.png\n\n  {folder}/none.png \n")
    found = expand([str(folder / "c.jpeg")], str(listed), ("x",))
    assert names(found) == ["c.jpeg", "b.png", "none.png"]
    assert found.missing == [folder / "none.png"]
    with pytest.raises(UsageError, match="has no query; give --text"):
        expand([str(folder / "c.jpeg")], str(listed), ())


def test_lines_of_json_have_queries_of_their_own(folder, tmp_path):
    listed = tmp_path / "files.jsonl"
    lines = [
        {"image": f"{folder}/b.png", "query": "a road"},
        {"image": f"{folder}/a.TIF"},
        {"image": f"{folder}/b.png", "query": "a pond", "id": 3},
    ]
    listed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = expand([], str(listed), ("x",))
    assert [(image.path.name, image.texts) for image in found.images] == [
        ("b.png", ("a road", "a pond")),
        ("a.TIF", ("x",)),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "names no image"),
        ("a.txt", b"\xff\xfe", "no text in UTF-8"),
        ("a.jsonl", b"{", "line 1 is no JSON"),
        ("a.jsonl", b'\n{"image": "a"}\n[1]', "line 3 names no image"),
        ("a.jsonl", b'{"image": 3}', "line 1 names no image"),
        ("a.jsonl", b'{"image": "a", "query": " "}', "line 1 is empty"),
        ("a.jsonl", b'{"image": "a", "query": 7}', "line 1 names no image"),
        ("a.jsonl", b"[" * 100_000, "line 1 is no JSON"),
    ],
)
def test_a_wrong_list_is_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GeoClickError, match=message) as caught:
        expand([], str(tmp_path / name), ("x",))
    assert os.linesep not in str(caught.value)
    with pytest.raises(GeoClickError, match="does not exist; check --from"):
        expand([], str(tmp_path / "none.txt"), ("x",))
