import numpy as np

from geoclick.clicks import Click
from geoclick.data_synthesis.sheet import (
    CELL,
    GAP,
    HEADER,
    TITLE,
    draw_sheet,
    pick,
)
from geoclick.pages.click_drawing import NEGATIVE, POSITIVE, window_around
from tests.data_synthesis.click_rows import make_row


def row(mask, clicks, ious):
    query = "a query that is far too long for the space that a caption has below its cell"
    return make_row(mask, clicks, ious, query=query)


def test_clicks_are_drawn_at_their_place_in_their_color():
    mask = np.zeros((100, 100), bool)
    mask[20:81, 20:81] = True
    clicks = (Click(35, 50, True), Click(65, 30, False))
    sheet = draw_sheet(
        [row(mask, clicks, (0.5, 0.6))], [np.full((100, 100, 3), 90, np.uint8)], [[mask, mask]], columns=3
    )
    assert sheet.width == 3 * (CELL + GAP) + GAP
    left, top, side = window_around(mask, clicks)
    for column, shown in ((0, 0), (1, 1), (2, 2)):
        for number, click in enumerate(clicks):
            # Next to the number, inside the disc.
            x = GAP + column * (CELL + GAP) + (click.x + 0.5 - left) * CELL / side + 5
            y = HEADER + TITLE + (click.y + 0.5 - top) * CELL / side
            color = POSITIVE if click.positive else NEGATIVE
            pixel = np.array(sheet.getpixel((int(x), int(y))))
            assert (np.abs(pixel - color).max() < 60) == (number < shown)


def test_picking_is_fair_ordered_and_repeatable():
    rows = [row(np.ones((2, 2), bool), (), ()) for _ in range(20)]
    first, again, other = (pick(rows, 5, seed) for seed in (0, 0, 1))
    places = [next(i for i, r in enumerate(rows) if r is row) for row in first]
    assert places == sorted(places)
    assert len(set(places)) == 5
    assert all(a is b for a, b in zip(first, again, strict=True))
    assert any(a is not b for a, b in zip(first, other, strict=True))
    assert len(pick(rows, 50, 0)) == 20
