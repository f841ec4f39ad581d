import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from geoclick.clicks import Click
from geoclick.instances import Instance, by_area, of_mask

MASKS = arrays(bool, (7, 9))


@given(MASKS, MASKS)
def test_an_instance_is_its_mask_cut_out(mask, other):
    one = of_mask((Click(1, 2),), mask, score=0.5)
    np.testing.assert_array_equal(one.in_image((7, 9)), mask)
    assert one.area == mask.sum()
    assert not one.mask.size or (one.mask.any(0)[[0, -1]].all() and one.mask.any(1)[[0, -1]].all())
    np.testing.assert_array_equal(one.within(other).in_image((7, 9)), mask & other)
    assert (one.within(other).clicks, one.within(other).score) == (one.clicks, 0.5)


@given(MASKS)
def test_a_moved_instance_is_where_its_image_is(mask):
    one = of_mask((Click(1, 2, False),), mask, prompt_box=(1, 2, 3, 4)).moved(10, 20)
    image = np.zeros((20, 30), bool)
    image[10:17, 20:29] = mask
    np.testing.assert_array_equal(one.in_image((20, 30)), image)
    assert (one.clicks, one.prompt_box) == ((Click(21, 12, False),), (21, 12, 23, 14))
    if mask.any():
        rows, columns = np.nonzero(image)
        assert one.box == (columns.min(), rows.min(), columns.max(), rows.max())
    else:
        assert one.box is None


@given(MASKS, st.integers(1, 40), st.integers(1, 40))
def test_resizing_takes_the_nearest_pixels(mask, height, width):
    resized = of_mask((), mask).resized((7, 9), (height, width))
    expected = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resized, np.asarray(expected))


def test_the_smallest_is_on_top():
    sizes = [4, 2, 9, 2]
    assert by_area([Instance((), np.ones((1, size), bool)) for size in sizes]) == [1, 3, 0, 2]
