import numpy as np
import pytest

from geoclick import images
from geoclick.inference.reports import gallery
from tests.geoclick.pages.decoding import decoded
from tests.inference import evaluated


@pytest.fixture
def record(tmp_path):
    mask = evaluated.square(8, 8, 16)
    pixels = np.full((*evaluated.SIZE, 3), (10, 90, 30), np.uint8)
    (tmp_path / "data").mkdir()
    images.write_png(tmp_path / "data/0.png", pixels)
    return evaluated.record("a", mask, mask, clicks=[[12.0, 16.0, True]])


def test_the_image_is_read_from_the_root(record, tmp_path):
    image, error = gallery.read_image(record, tmp_path / "data")
    assert error == ""
    assert image.shape == (270, 360, 3)
    assert (image == (10, 90, 30)).all()


@pytest.mark.parametrize("fault", ["missing", "outside", "broken", "of another size", "a folder"])
def test_an_image_that_cannot_be_read_is_grey(record, tmp_path, fault):
    path = tmp_path / "data/0.png"
    if fault == "missing":
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
    image, error = gallery.read_image(record, tmp_path / "data")
    assert error
    assert image.shape == (270, 360, 3)
    assert (image == gallery.GREY).all()


def pixels_of(picture):
    """The pixels of a picture, int [h, w, 3]."""
    return decoded(picture.source).astype(int)


def test_a_picture_shows_the_mask_and_the_clicks_where_they_are(record, tmp_path):
    image, _ = gallery.read_image(record, tmp_path / "data")
    assert gallery.picture(image, record, "mask", label='A "<1>"').label == 'A "<1>"'
    shown, target, bare = (
        pixels_of(gallery.picture(image, record, shows, label="x")) for shows in ("mask", "target", "image")
    )
    assert abs(bare - (10, 90, 30)).max() < 12
    scale = gallery.PICTURE_SIZE / 64
    rows, columns = np.nonzero(target[..., 2] > bare[..., 2] + 50)
    edges = np.array([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]) / scale
    assert edges == pytest.approx([8, 24, 8, 24], abs=0.6)
    unclicked = pixels_of(gallery.picture(image, record | {"clicks": []}, "mask", label="x"))
    rows, columns = np.nonzero(abs(shown - unclicked).max(axis=2) > 60)
    # The mark is a disc, centered on the click.
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    assert middle == pytest.approx(((16 + 0.5) * scale - 0.5, (12 + 0.5) * scale - 0.5), abs=1.5)


def test_answers_are_shortened_and_empty_ones_left_out():
    assert gallery.answer("") == []
    assert gallery.answer("<b>", "A & B") == [("A & B", "<b>")]
    ((_, shown),) = gallery.answer("x" * 10_000)
    assert len(shown) < gallery.MAX_TEXT + 50


def test_details_leave_out_what_repeats_the_query(record):
    assert gallery.details(record, "ok") == "a · referring · ok"
    assert gallery.details(record | {"category": "the tank"}) == "a · referring"
