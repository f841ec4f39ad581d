import base64
import io

import evaluated
import numpy as np
import pytest
from PIL import Image

from geoclick import images
from inference import exhibits


@pytest.fixture
def record(tmp_path):
    mask = evaluated.square(8, 8, 16)
    pixels = np.full((*evaluated.SIZE, 3), (10, 90, 30), np.uint8)
    (tmp_path / "data").mkdir()
    images.write_png(tmp_path / "data/0.png", pixels)
    return evaluated.record("a", mask, mask, clicks=[[16.0, 16.0, True]])


def test_the_image_is_read_below_the_root(record, tmp_path):
    image, missing = exhibits.image_of(record, tmp_path / "data")
    assert missing == ""
    assert image.shape == (*evaluated.SIZE, 3)
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
    image, missing = exhibits.image_of(record, tmp_path / "data")
    assert missing
    assert image.shape == (*evaluated.SIZE, 3)
    assert (image == exhibits.GREY).all()


def test_a_picture_shows_mask_and_click(record, tmp_path):
    image, _ = exhibits.image_of(record, tmp_path / "data")
    page = exhibits.picture(image, record["mask"], record["clicks"], label='A "<1>"')
    assert "A &quot;&lt;1&gt;&quot;" in page
    encoded = page.split("base64,")[1].split('"')[0]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    assert max(picture.shape) == exhibits.PICTURE
    scale = exhibits.PICTURE / 64
    inside, outside = (picture[int(y * scale), int(x * scale)].astype(int) for x, y in ((22, 22), (40, 40)))
    assert inside[0] > outside[0] + 50
    assert abs(outside - (10, 90, 30)).max() < 12
    bare = exhibits.picture(image, None, label="image")
    assert bare != page


def test_what_a_model_wrote_is_text():
    assert exhibits.text("") == ""
    assert exhibits.text("<b>", "A & B") == "<code><b>A &amp; B</b> &lt;b&gt;</code>"
    assert len(exhibits.text("x" * 10_000)) < exhibits.TEXT + 50
