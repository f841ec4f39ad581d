import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from geoclick.datasets.color_masks import EIGHT, Legend, regions, unknown_pixels, valid_pixels

LEGEND = Legend({"a": 1, "b": 2}, frozenset({0}))


@given(arrays(np.int32, (6, 7), elements=st.integers(0, 3)))
def test_regions_part_the_classes_into_connected_pieces_in_order(codes):
    covered = np.zeros(codes.shape, int)
    found = list(regions(codes, LEGEND))
    for region in found:
        mask = np.zeros(codes.shape, bool)
        mask[region.box] = region.mask
        covered += mask
        assert (codes[mask] == LEGEND.classes[region.category]).all()
        assert ndimage.label(mask, EIGHT)[1] == 1
        assert tuple(np.argwhere(mask)[0]) == region.start
        assert mask.sum() == region.area
    np.testing.assert_array_equal(covered, valid_pixels(codes, LEGEND))
    assert len(found) == sum(ndimage.label(codes == code, EIGHT)[1] for code in (1, 2))
    assert [(r.category, r.start) for r in found] == sorted((r.category, r.start) for r in found)
    assert unknown_pixels(codes, LEGEND) == (codes == 3).sum()
