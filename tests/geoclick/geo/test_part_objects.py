"""Regions of masks divided among the parts of answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio import Affine, features

from geoclick.geo import objects, part_objects
from geoclick.geo.part_objects import WindowPart
from geoclick.geo.tiles import Window
from geoclick.instances import by_area, of_mask
from tests.geotiffs import shapely

SIZE = (8, 9)
MASKS = arrays(bool, SIZE)
HERE = Window(0, 0, *SIZE)


def pixels_of(shape, size=SIZE):
    """The pixels of a shape, bool [H, W]."""
    if shape.is_empty:
        return np.zeros(size, bool)
    return features.rasterize([shape], size, transform=Affine.identity(), dtype=np.uint8).astype(bool)


@given(MASKS.filter(np.any))
def test_the_outline_of_an_instance_has_its_pixels(mask):
    outline = part_objects.outline(of_mask((), mask).moved(3, 2))
    assert outline.is_valid
    assert outline.area == mask.sum()
    np.testing.assert_array_equal(pixels_of(outline, (11, 11))[3:, 2:], mask)


@settings(max_examples=60)
@given(st.lists(MASKS, min_size=1, max_size=4), MASKS)
def test_every_pixel_has_one_object_the_smallest_of_its_parts(parts, rest):
    instances = [of_mask((), mask, score=0.5) for mask in parts]
    mask = np.logical_or.reduce([rest, *parts])
    found = objects.from_mask(mask, 0.25, "", Affine.identity(), 0.0, instances)
    shapes = [pixels_of(shape) for shape in found.shapes]
    np.testing.assert_array_equal(np.sum(shapes, axis=0, dtype=int) if shapes else 0 * mask, mask)
    assert [int(shape.sum()) for shape in shapes] == found.pixels.tolist()
    owner = np.full(SIZE, -1)
    for number in reversed(by_area(instances)):
        owner[parts[number]] = number
    of_parts = [shape for shape, count in zip(shapes, found.parts, strict=True) if count]
    for number in range(len(parts)):
        own = owner == number
        # All pixels of a part that lie on top are in one object.
        if own.any():
            assert sum(bool((shape & own).any()) for shape in of_parts) == 1
    assert len(of_parts) == len({number for number in owner.ravel().tolist() if number >= 0})
    assert set(found.scores[found.parts > 0].tolist()) <= {0.5}
    assert set(found.scores[found.parts == 0].tolist()) <= {0.25}


def window_part(mask, window, number, score=None):
    """A part of a window of an image; `mask` is of the complete image."""
    row, column, height, width = window
    inside = mask[row : row + height, column : column + width]
    return WindowPart(of_mask((), inside, score=score).moved(row, column), window, number, 0.5)


LEFT, RIGHT, FAR = Window(0, 0, 10, 20), Window(0, 14, 10, 20), Window(0, 20, 10, 20)


def bar(start, stop, rows=slice(2, 8)):
    mask = np.zeros((10, 40), bool)
    mask[rows, start:stop] = True
    return mask


def divided(region, parts):
    found = part_objects.of_parts(parts)
    for polygon in part_objects.polygons(part_objects.outline(of_mask((), region))):
        found.divide(polygon)
    shapes, fields = found.found()
    return [(shape.bounds[::2], int(fields["parts"][i])) for i, shape in enumerate(shapes)], fields


def test_parts_of_overlapping_windows_are_one_object_where_they_agree():
    # Two touching objects, 3 to 16 and 16 to 30; both windows see a piece of each.
    one, two = bar(3, 16), bar(16, 30)
    parts = [
        window_part(mask, window, number, score)
        for number, window, score in ((0, LEFT, 0.2), (1, RIGHT, 0.8))
        for mask in (one, two)
    ]
    found, fields = divided(one | two, parts)
    assert found == [((3.0, 16.0), 2), ((16.0, 30.0), 2)]
    # 13 columns of the first in the left window, 2 in the right one.
    assert fields["scores"].tolist() == pytest.approx([(13 * 0.2 + 2 * 0.8) / 15, (4 * 0.2 + 14 * 0.8) / 18])
    assert (fields["windows"].tolist(), fields["joined"].tolist()) == ([0, 1], [2, 2])


def test_parts_that_disagree_where_windows_overlap_are_different_objects():
    # The right window sees both as one object.
    one, two = bar(3, 16), bar(16, 30)
    parts = [window_part(mask, LEFT, 0) for mask in (one, two)] + [window_part(one | two, RIGHT, 1)]
    found, _ = divided(one | two, parts)
    # It agrees with the second: 4 of 6 columns.
    assert found == [((3.0, 16.0), 1), ((16.0, 30.0), 2)]


def test_parts_of_windows_without_overlap_are_one_object_if_they_touch():
    parts = [
        window_part(bar(3, 30), LEFT, 0),
        window_part(bar(3, 30), FAR, 1),
        window_part(bar(35, 38), FAR, 1),
    ]
    found, _ = divided(bar(3, 30) | bar(35, 38), parts)
    assert found == [((3.0, 30.0), 2), ((35.0, 38.0), 1)]


def test_an_object_that_smaller_ones_cover_has_no_shape():
    halves = [window_part(bar(3, 8), LEFT, 0), window_part(bar(8, 12), LEFT, 0)]
    found, _ = divided(bar(3, 12), [*halves, window_part(bar(3, 12), LEFT, 0)])
    assert found == [((3.0, 8.0), 1), ((8.0, 12.0), 1)]
    assert part_objects.of_parts([]) is None
    assert shapely.area(part_objects.of_parts(halves).shapes).tolist() == [30, 24]
