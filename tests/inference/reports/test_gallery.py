import numpy as np
import pytest

from geoclick import images, masks
from geoclick.inference.reports import gallery
from geoclick.pages import record_drawing
from geoclick.pages.click_drawing import Window
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


def test_pictures_have_the_drawing_and_the_label(record, tmp_path):
    image, _ = gallery.read_complete(record, tmp_path / "data")
    picture = gallery.answer_picture(image, record, None, label='A "<1>"')
    assert picture.label == 'A "<1>"'
    side = gallery.PICTURE_SIZE
    drawn = record_drawing.complete_answer(gallery.resized(image), record, side=side)
    assert abs(pixels_of(picture) - drawn).mean() < 6  # JPEG


def test_a_small_target_is_shown_in_a_window_whose_frame_is_on_the_complete_image(record, tmp_path):
    small = evaluated.square(20, 30, 4)
    record |= {
        "target": masks.encode_rle(small),
        "mask": masks.encode_rle(small),
        "clicks": [[31.0, 21.0, True]],
    }
    image, error = gallery.read_complete(record, tmp_path / "data")
    assert (image.shape[:2], error) == (evaluated.SIZE, "")
    # Windows of 96 pixels are the smallest: larger than this image.
    assert gallery.window_of([record]) is None
    window = Window(20, 10, 24)
    shown = pixels_of(gallery.answer_picture(image, record, window, label="x"))
    assert shown.shape == (gallery.PICTURE_SIZE, gallery.PICTURE_SIZE, 3)
    # The target takes 4 of 24 pixels of the window, and begins after 10 of them.
    rows, columns = np.nonzero(abs(shown - (10, 90, 30)).max(axis=2) > 60)
    scale = gallery.PICTURE_SIZE / 24
    assert [rows.min(), columns.min()] == pytest.approx([10 * scale, 10 * scale], abs=4)
    assert [rows.max(), columns.max()] == pytest.approx([14 * scale, 14 * scale], abs=4)
    framed = pixels_of(gallery.target_picture(image, record, window))
    bare = pixels_of(gallery.target_picture(image, record, None))
    rows, columns = np.nonzero(abs(framed - bare).max(axis=2) > 60)
    scale = gallery.PICTURE_SIZE / 64
    assert [rows.min(), rows.max()] == pytest.approx([10 * scale, 34 * scale], abs=3)
    assert [columns.min(), columns.max()] == pytest.approx([20 * scale, 44 * scale], abs=3)


def test_the_window_holds_target_masks_and_clicks_of_all_records_and_none_of_several_parts():
    size = (400, 400)
    target, mask = np.zeros(size, bool), np.zeros(size, bool)
    target[100:110, 100:110], mask[180:190, 150:160] = True, True
    one = evaluated.record("a", target, mask, clicks=[[155.0, 185.0, True]])
    left, top, side = gallery.window_of([one])
    assert left <= 100 <= 160 <= left + side
    assert top <= 100 <= 190 <= top + side
    far = one | {"clicks": [[390.0, 390.0, False]]}
    assert gallery.window_of([one, far]) is None
    assert gallery.window_of([one | {"parts": [{"clicks": [], "mask": one["mask"]}]}]) is None
    nothing = evaluated.record("b", np.zeros(size, bool), np.zeros(size, bool))
    assert gallery.window_of([nothing]) is None


def test_answers_are_shortened_and_empty_ones_left_out():
    assert gallery.answer("") == []
    assert gallery.answer("<b>", "A & B") == [("A & B", "<b>")]
    ((_, shown),) = gallery.answer("x" * 10_000)
    assert len(shown) < gallery.MAX_TEXT + 50


def test_details_leave_out_what_repeats_the_query(record):
    assert gallery.details(record, "ok") == "a · referring · ok"
    assert gallery.details(record | {"category": "the tank"}) == "a · referring"
