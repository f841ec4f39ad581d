import numpy as np
import pytest

from geoclick import masks
from geoclick.pages import record_drawing
from tests.inference import evaluated

GREEN = (10, 90, 30)
SIDE = 360


@pytest.fixture
def record():
    mask = evaluated.square(8, 8, 16)
    return evaluated.record("a", mask, mask, clicks=[[12.0, 16.0, True]])


@pytest.mark.parametrize("scale", [1, 2, SIDE / 64])
def test_mask_and_clicks_are_where_they_are_at_any_size_of_the_image(record, scale):
    height, width = (round(side * scale) for side in evaluated.SIZE)
    image = np.full((height, width, 3), GREEN, np.uint8)
    target = record_drawing.target(image, record, None, side=SIDE).astype(int)
    assert target.shape == (270, 360, 3)
    factor = SIDE / 64
    rows, columns = np.nonzero(target[..., 2] > GREEN[2] + 50)
    edges = np.array([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]) / factor
    assert edges == pytest.approx([8, 24, 8, 24], abs=0.6)
    shown = record_drawing.complete_answer(image, record, side=SIDE).astype(int)
    unclicked = record_drawing.complete_answer(image, record | {"clicks": []}, side=SIDE).astype(int)
    rows, columns = np.nonzero(abs(shown - unclicked).max(axis=2) > 60)
    # The mark is a disc, centered on the click.
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    assert middle == pytest.approx(((16 + 0.5) * factor - 0.5, (12 + 0.5) * factor - 0.5), abs=1.5)


def test_parts_have_colors_of_their_own(record):
    image = np.full((*evaluated.SIZE, 3), GREEN, np.uint8)
    left, right = evaluated.square(8, 8, 16), evaluated.square(8, 40, 16)
    parts = [{"clicks": [], "mask": masks.encode_rle(mask)} for mask in (left, right)]
    whole = record | {"mask": masks.encode_rle(left | right), "clicks": []}
    one = record_drawing.complete_answer(image, whole, side=64)
    two = record_drawing.complete_answer(image, whole | {"parts": parts}, side=64)
    assert (one[16, 16] == one[16, 48]).all()
    assert (two[16, 16] != two[16, 48]).any()
