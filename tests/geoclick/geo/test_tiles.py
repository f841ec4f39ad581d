import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geoclick.geo import tiles
from geoclick.geo.tiles import Window


@st.composite
def grids(draw):
    side = draw(st.integers(1, 30))
    shape = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    return shape, tiles.cut(shape, side, draw(st.integers(0, side - 1)))


def where(window):
    return slice(window.row, window.row + window.height), slice(window.column, window.column + window.width)


@given(st.integers(1, 500), st.integers(1, 60), st.data())
def test_starts_cover_a_length_and_share_the_overlap(length, side, data):
    overlap = data.draw(st.integers(0, side - 1))
    found = tiles.starts(length, side, overlap)
    extent = min(length, side)
    assert found[0] == 0
    assert found[-1] + extent == length
    steps = np.diff(found)
    assert (steps > 0).all()
    assert (steps <= side - overlap).all()
    # No tile more than needed: all but the last step are whole.
    assert (steps[:-1] == side - overlap).all()


@given(grids())
def test_tiles_lie_inside_and_their_exclusive_parts_do_not_overlap(drawn):
    shape, grid = drawn
    times = np.zeros(shape, int)
    for tile in tiles.all_tiles(grid):
        part = times[where(tiles.window(grid, tile))]
        assert part.shape == (grid.height, grid.width)
        part[tiles.exclusive(grid, tile)] += 1
    assert (times == 1).all()


@given(grids(), st.data())
def test_a_box_is_shown_by_one_tile_that_holds_it_or_by_all_it_takes(drawn, data):
    shape, grid = drawn
    row, column = (data.draw(st.integers(0, side - 1)) for side in shape)
    height, width = (
        data.draw(st.integers(1, side - low)) for side, low in zip(shape, (row, column), strict=True)
    )
    box = Window(row, column, height, width)
    shown = tiles.showing(grid, box)

    def off_the_middle(tile):
        at = tiles.window(grid, tile)
        return (
            abs(2 * at.row + at.height - 2 * row - height),
            abs(2 * at.column + at.width - 2 * column - width),
        )

    whole = [tile for tile in tiles.all_tiles(grid) if tiles.overlap(box, tiles.window(grid, tile)) == box]
    if whole:
        (tile,) = shown
        assert tile in whole
        assert all(
            near <= far
            for other in whole
            for near, far in zip(off_the_middle(tile), off_the_middle(other), strict=True)
        )
    seen = np.zeros(shape, int)
    for tile in shown:
        part = tiles.overlap(box, tiles.window(grid, tile))
        assert part is not None
        seen[where(part)] += 1
    assert (seen[where(box)] > 0).all()
    # A row of tiles that holds the box from top to bottom is not doubled by another.
    if any(begin <= row and begin + grid.height >= row + height for begin in grid.rows):
        assert len({tile[0] for tile in shown}) == 1
    if any(begin <= column and begin + grid.width >= column + width for begin in grid.columns):
        assert len({tile[1] for tile in shown}) == 1


windows = st.builds(Window, st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9))


@given(windows, windows)
def test_overlap_is_what_both_windows_hold(a, b):
    both = np.zeros((20, 20), int)
    both[where(a)] += 1
    both[where(b)] += 1
    found = np.zeros((20, 20), bool)
    if part := tiles.overlap(a, b):
        found[where(part)] = True
    np.testing.assert_array_equal(found, both == 2)


def test_the_tiles_of_an_image_have_one_source():
    first, second, other = (
        f"test/.tiles/{name}.png" for name in ("a-12/0-0-8x8", "a-12/0-4-8x8", "b-12/0-0-8x8")
    )
    assert tiles.source(first) == tiles.source(second) != tiles.source(other)
    assert tiles.source("test/images/a.png") == "test/images/a.png"
    assert [tiles.is_tile(name) for name in (first, "test/images/a.tiles.png")] == [True, False]
