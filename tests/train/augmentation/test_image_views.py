import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geoclick.clicks import Click
from geoclick.train.augmentation.directions import DOWN, LEFT, RIGHT, UP
from geoclick.train.augmentation.image_views import ImageView


@st.composite
def cases(draw):
    """A size, a view whose crop is inside it, and a pixel of the crop."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    crop = (left, top, draw(st.integers(1, width - left)), draw(st.integers(1, height - top)))
    x, y = draw(st.integers(left, left + crop[2] - 1)), draw(st.integers(top, top + crop[3] - 1))
    view = ImageView(draw(st.sampled_from([None, crop])), draw(st.booleans()), draw(st.integers(0, 3)))
    return (height, width), view, (x, y)


@given(cases())
def test_the_pixel_under_a_click_stays_the_same(case):
    size, view, (x, y) = case
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    mask = np.zeros(size, bool)
    mask[y, x] = True
    click = view.click(Click(x, y, False), size)
    shown = view.mask(mask)
    column, row = int(np.floor(click.x + 0.5)), int(np.floor(click.y + 0.5))
    assert shown.shape == view.size(size)
    assert view.pixels(image).shape == (*shown.shape, 3)
    assert shown[row, column]
    assert not click.positive
    if view.crop is None:
        assert np.array_equal(view.pixels(image)[row, column], image[y, x])
        assert shown.sum() == 1


@given(cases())
def test_directions_follow_the_pixels(case):
    _, view, _ = case
    view = ImageView(None, view.mirrored, view.turns)
    marks = {LEFT: (1, 0), RIGHT: (1, 2), UP: (0, 1), DOWN: (2, 1)}
    for way, (row, column) in marks.items():
        mask = np.zeros((3, 3), bool)
        mask[row, column] = True
        assert tuple(np.argwhere(view.mask(mask))[0]) == marks[view.direction(way)]
