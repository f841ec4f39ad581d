import hashlib

import pytest

from geoclick.errors import GeoClickError
from geoclick.train.data import image_hashes


def test_names_are_paths_below_the_root_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data-2").mkdir()
    (tmp_path / "link").symlink_to("data-2")
    paths = [
        tmp_path / "data/b/1.png",
        tmp_path / "data/a.png",
        tmp_path / "data-2/a.png",
        tmp_path / "c.png",
    ]
    found = image_hashes.named(map(str, paths), ["data/", "./link", "data"])
    assert list(found.items()) == [
        ("link/a.png", paths[2]),
        ("data/a.png", paths[1]),
        ("data/b/1.png", paths[0]),
    ]


def test_hashes_are_those_of_the_contents_and_survive_a_file(tmp_path):
    images = {}
    for number in range(40):
        path = tmp_path / f"{number}  ü.png"
        path.write_bytes(b"x" * number)
        images[f"data/{path.name}"] = path
    hashes = image_hashes.of(images)
    assert hashes == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in images.items()}
    image_hashes.write(tmp_path / "run", hashes)
    assert image_hashes.read(tmp_path / "run") == hashes
    assert image_hashes.read(tmp_path) == {}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"junk\n", b"0" * 64 + b"  a.png\n" + b"0" * 30])
def test_a_damaged_file_is_one_sentence(tmp_path, content):
    (tmp_path / image_hashes.NAME).write_bytes(content)
    with pytest.raises(GeoClickError, match=r"images\.sha256 is damaged; restore it, or delete it"):
        image_hashes.read(tmp_path)


def test_an_image_that_broke_a_run_may_be_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hashes = {f"data/{name}.png": "0" * 64 for name in ("a", "ab")}
    for error in ("data/a.png cannot be read", f"{tmp_path}/data/a.png cannot be read"):
        image_hashes.write(tmp_path, hashes)
        image_hashes.leave_out_broken(tmp_path, error)
        assert list(image_hashes.read(tmp_path)) == ["data/ab.png"]
    image_hashes.leave_out_broken(tmp_path, "The loss is not finite.")
    assert list(image_hashes.read(tmp_path)) == ["data/ab.png"]
