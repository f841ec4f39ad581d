"""Only images below the named folder are opened, and broken or large ones are refused in one sentence."""

import numpy as np
import pytest

from geoclick import images
from geoclick.errors import GeoClickError
from geoclick.geo.reading import DEFAULT
from geoclick.inference.app import sources
from geoclick.inference.app.sources import Limits


@pytest.fixture
def folder(tmp_path):
    """A folder with two images, a text, a link out, and a secret image next to it."""
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    (root / ".hidden").mkdir()
    picture = np.zeros((8, 8, 3), np.uint8)
    for path in (root / "a.png", root / "sub/b.PNG", root / ".hidden/c.png", tmp_path / "secret.png"):
        path.touch()
        images.write_png(path, picture)
    (root / "notes.txt").write_text("no image")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "out").symlink_to(tmp_path)
    return root


def test_images_below_the_folder_are_listed(folder):
    assert sources.listed(folder) == ["a.png", "sub/b.PNG"]


@pytest.mark.parametrize(
    "name", ["../secret.png", "link.png", "out/secret.png", "/etc/passwd", "sub/../../secret.png", "a\0.png"]
)
def test_no_other_path_is_opened(folder, name):
    with pytest.raises(GeoClickError) as caught:
        sources.named(folder, name)
    assert str(folder) not in str(caught.value)


def test_names_of_the_list_are_opened(folder):
    assert sources.named(folder, "sub/b.PNG") == (folder / "sub/b.PNG").resolve()
    for name in ("notes.txt", "missing.png", "sub"):
        with pytest.raises(GeoClickError, match="no image in the folder"):
            sources.named(folder, name)
    with pytest.raises(GeoClickError, match="--images"):
        sources.named(None, "a.png")


def test_large_images_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "large.png"
    images.write_png(path, np.zeros((100, 200, 3), np.uint8))
    with pytest.raises(GeoClickError, match=r"large.png has 200x100 pixels, more than 0.01 million"):
        sources.read(path, "large.png", Limits(0.01, 1), DEFAULT)
    assert sources.read(path, "large.png", Limits(0.02, 1), DEFAULT).size == (100, 200)


def test_large_files_are_refused(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(bytes(10**6 + 1))
    with pytest.raises(GeoClickError, match="larger than 1 MB"):
        Limits(1, 1).check_file(path)


def test_a_broken_tiff_is_refused_without_its_path(tmp_path):
    path = tmp_path / "broken.tif"
    path.write_bytes(b"II*\0" + bytes(range(200)))
    with pytest.raises(GeoClickError) as caught:
        sources.read(path, "broken.tif", Limits(1, 1), DEFAULT)
    assert str(tmp_path) not in str(caught.value)
    assert "broken.tif" in str(caught.value)
