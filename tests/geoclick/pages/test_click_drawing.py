import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geoclick.clicks import Click
from geoclick.pages import click_drawing


def near(picture, color, tolerance=40):
    return (np.abs(picture.astype(int) - color) < tolerance).all(axis=-1)


@settings(max_examples=25)
@given(
    size=st.tuples(st.integers(40, 300), st.integers(40, 300)),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    positive=st.booleans(),
)
def test_a_click_is_drawn_in_its_color_where_it_is(size, place, positive):
    image = np.full((*size, 3), 128, np.uint8)
    x, y = place[0] * (size[1] - 1), place[1] * (size[0] - 1)
    picture = click_drawing.overlay(image, np.zeros(size, bool), [Click(x, y, positive)])
    rows, columns = np.nonzero(near(picture, click_drawing.POSITIVE if positive else click_drawing.NEGATIVE))
    scale = max(picture.shape) / max(size)
    radius = click_drawing.marker_radius(max(picture.shape))
    center = (x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5
    assert len(rows) > radius
    distance = np.hypot(columns - center[0], rows - center[1])
    assert distance.max() < radius + 2
    assert not near(picture, click_drawing.NEGATIVE if positive else click_drawing.POSITIVE).any()


def test_the_mask_is_tinted_outlined_and_the_rest_untouched():
    image = np.full((512, 640, 3), 60, np.uint8)
    mask = np.zeros((512, 640), bool)
    mask[100:200, 300:400] = True
    picture = click_drawing.overlay(image, mask, [])
    assert picture.shape == image.shape
    assert (picture[~mask] == 60).all()
    assert (picture[100, 300:400] == click_drawing.MASK_COLOR).all()
    inside = picture[150, 350].astype(float)
    expected = (1 - click_drawing.TINT) * 60 + click_drawing.TINT * np.array(click_drawing.MASK_COLOR)
    assert np.abs(inside - expected).max() <= 1


def test_clicks_are_numbered_in_order():
    image = np.zeros((512, 512, 3), np.uint8)
    places = [Click(100, 100), Click(300, 100)]
    picture = click_drawing.overlay(image, np.zeros((512, 512), bool), places)
    first, second = picture[85:116, 85:116], picture[85:116, 285:316]
    assert near(first, (255, 255, 255)).any()
    assert (first != second).any()


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (7000, 20)])
def test_a_panel_has_the_longest_side_asked_for(size):
    picture = click_drawing.panel(
        np.zeros((*size, 3), np.uint8), np.ones(size, bool), [Click(0, 0)], longest=200
    )
    assert max(picture.shape[:2]) == 200
    assert min(picture.shape[:2]) >= 1


def test_a_data_uri_decodes_to_the_picture():
    picture = np.full((20, 30, 3), (200, 30, 30), np.uint8)
    uri = click_drawing.data_uri(picture)
    content = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(content)) as image:
        assert near(np.asarray(image), (200, 30, 30), tolerance=8).all()
        assert image.size == (30, 20)
