"""Predictions on windows of a large image, put together again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick.clicks import Click
from geoclick.inference import windows
from geoclick.inference.prediction import Prediction, failed


class Bright:
    """A pipeline whose mask is the bright pixels of what it is shown, with a click on the first of them."""

    def __init__(self):
        self.shown = []

    def predict_batch(self, images, texts):
        self.shown += images
        return [self.answer(image) for image in images]

    def answer(self, image):
        mask = image[..., 0] > 128
        rows, columns = mask.nonzero()
        clicks = (Click(float(columns[0]), float(rows[0])),) if len(rows) else ()
        return Prediction(mask, clicks, "text", "ok" if clicks else "empty", score=0.5)


def picture(height=50, width=70):
    image = np.zeros((height, width, 3), np.uint8)
    image[10:30, 20:45] = 255
    return image


@given(st.integers(5, 80), st.data())
def test_a_mask_by_windows_is_that_of_the_image(tile, data):
    image, pipeline = picture(), Bright()
    overlap = data.draw(st.integers(0, tile - 1))
    first, second = windows.predict(pipeline, [image, image], ["a", "b"], tile=tile, overlap=overlap)
    np.testing.assert_array_equal(first.mask, image[..., 0] > 0)
    assert all(first.mask[int(click.y), int(click.x)] for click in first.clicks)
    assert (first.status, first.score) == ("ok", 0.5)
    assert first.clicks == second.clicks
    # An image is cut once for all its texts, so that each window is embedded once.
    assert len({id(part) for part in pipeline.shown}) == len(pipeline.shown) // 2
    assert all(max(part.shape[:2]) <= tile for part in pipeline.shown)


@pytest.mark.parametrize("tile", [None, 70])
def test_an_image_that_is_not_cut_is_passed_on(tile):
    image, pipeline = picture(), Bright()
    windows.predict(pipeline, [image], ["a"], tile=tile, overlap=0)
    assert [part is image for part in pipeline.shown] == [True]


def test_the_worst_status_is_that_of_the_image_and_an_error_fails_it():
    parts = windows.cut((10, 20), 10, 0)
    answers = [
        Prediction(np.zeros((10, 10), bool), (), text, status)
        for text, status in (("a", "ok"), ("b", "repaired"))
    ]
    both = windows.together((10, 20), list(zip(parts, answers, strict=True)))
    assert (both.status, both.text, both.mask.shape) == ("repaired", "a\nb", (10, 20))
    both = windows.together((10, 20), [(parts[0], answers[0]), (parts[1], failed((10, 10), "too narrow"))])
    assert (both.status, both.error) == ("failed", "too narrow")
