import base64
import io

import numpy as np
import pytest
from PIL import Image

from geoclick import images
from geoclick.inference.reports import gallery
from tests.inference import evaluated


@pytest.fixture
def record(tmp_path):
    mask = evaluated.square(8, 8, 16)
    pixels = np.full((*evaluated.SIZE, 3), (10, 90, 30), np.uint8)
    (tmp_path / "data").mkdir()
    images.write_png(tmp_path / "data/0.png", pixels)
    return evaluated.record("a", mask, mask, clicks=[[12.0, 16.0, True]])


def test_the_image_is_read_below_the_root(record, tmp_path):
    image, missing = gallery.image_of(record, tmp_path / "data")
    assert missing == ""
    assert image.shape == (270, 360, 3)
    assert (image == (10, 90, 30)).all()


@pytest.mark.parametrize("fault", ["gone", "outside", "broken", "of another size", "a folder"])
def test_an_image_that_cannot_be_shown_leaves_grey_ground(record, tmp_path, fault):
    path = tmp_path / "data/0.png"
    if fault == "gone":
        path.unlink()
    elif fault == "outside":
        path.rename(tmp_path / "0.png")
        record["image"] = "../0.png"
    elif fault == "broken":
        path.write_bytes(path.read_bytes()[:40])
    elif fault == "a folder":
        record["image"] = "."
    else:
        images.write_png(path, np.zeros((5, 5, 3), np.uint8))
    image, missing = gallery.image_of(record, tmp_path / "data")
    assert missing
    assert image.shape == (270, 360, 3)
    assert (image == gallery.GREY).all()


def pixels_of(html):
    """The picture in an address, int [h, w, 3]."""
    encoded = html.split("base64,")[1].split('"')[0]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))).astype(int)


def test_a_picture_shows_the_mask_and_the_clicks_where_they_are(record, tmp_path):
    image, _ = gallery.image_of(record, tmp_path / "data")
    html = gallery.picture(image, record, "mask", label='A "<1>"')
    assert html.count("A &quot;&lt;1&gt;&quot;") == 2
    shown, target, bare = (
        pixels_of(gallery.picture(image, record, mask, label="x")) for mask in ("mask", "target", "")
    )
    assert abs(bare - (10, 90, 30)).max() < 12
    scale = gallery.PICTURE / 64
    rows, columns = np.nonzero(target[..., 0] > bare[..., 0] + 50)
    edges = np.array([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]) / scale
    assert edges == pytest.approx([8, 24, 8, 24], abs=0.6)
    rows, columns = np.nonzero(abs(shown - target).max(axis=2) > 60)
    # The mark is round, so its middle is the click.
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    assert middle == pytest.approx(((16 + 0.5) * scale - 0.5, (12 + 0.5) * scale - 0.5), abs=1.5)


def test_what_a_model_wrote_is_text():
    assert gallery.text("") == ""
    assert gallery.text("<b>", "A & B") == "<code><b>A &amp; B</b> &lt;b&gt;</code>"
    assert len(gallery.text("x" * 10_000)) < gallery.TEXT + 50
