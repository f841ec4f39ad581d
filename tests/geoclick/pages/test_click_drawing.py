import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
def test_a_click_is_drawn_in_its_color_at_its_place(size, place, positive):
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


def test_the_mask_is_tinted_and_outlined():
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


def test_a_window_panel_shows_clicks_target_and_prediction_where_they_are():
    image = np.full((80, 120, 3), 90, np.uint8)
    target, prediction = np.zeros((80, 120), bool), np.zeros((80, 120), bool)
    target[20:60, 40:100] = True
    prediction[30:50, 50:90] = True
    window = click_drawing.Window(20, 0, 80)
    picture = click_drawing.window_panel(image, target, None, [Click(60, 40)], window, side=240)
    assert picture.shape == (240, 240, 3)
    # Next to the number, inside the disc.
    assert near(picture, click_drawing.POSITIVE)[round(40.5 * 3), round(40.5 * 3) + 5]
    rows, columns = np.nonzero(near(picture, click_drawing.TARGET_COLOR))
    assert [rows.min(), rows.max()] == pytest.approx([20 * 3, 60 * 3], abs=3)
    assert [columns.min(), columns.max()] == pytest.approx([20 * 3, 80 * 3 - 1], abs=3)
    assert not near(picture, click_drawing.MASK_COLOR).any()
    predicted = click_drawing.window_panel(image, target, prediction, [], window, side=240)
    assert near(predicted, click_drawing.MASK_COLOR).any()
    assert (predicted[:50] == 90).all()


def test_beyond_the_border_a_window_is_light():
    image, empty = np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10), bool)
    picture = click_drawing.window_panel(image, empty, None, [], click_drawing.Window(-10, 0, 30), side=90)
    assert near(picture[:, :25], click_drawing.OUTSIDE, 8).all()
    assert near(picture[:25, 35:55], (0, 0, 0), 8).all()


def test_the_window_holds_target_and_clicks_and_is_inside_the_image_where_it_fits():
    mask = np.zeros((300, 400), bool)
    mask[5:40, 350:395] = True
    left, top, side = click_drawing.window_around(mask, [Click(340, 90)])
    assert left >= 0
    assert top >= 0
    assert left + side <= 400
    assert left <= 340
    assert top + side > 90
    assert click_drawing.window_around(np.ones((300, 400), bool), [])[2] >= 400


def test_a_box_is_drawn_along_the_outer_edges_of_its_pixels():
    image, mask = np.full((64, 128, 3), 90, np.uint8), np.zeros((64, 128), bool)
    picture = click_drawing.overlay(image, mask, [], [(16.0, 8.0, 47.0, 31.0)])
    drawn = (picture == click_drawing.POSITIVE).all(axis=-1)
    rows, columns = np.nonzero(drawn)
    # Four pixels of the picture for each of the image.
    assert (rows.min(), rows.max()) == (32, 127)
    assert (columns.min(), columns.max()) == (64, 191)
    assert not drawn[60:100, 100:150].any()
