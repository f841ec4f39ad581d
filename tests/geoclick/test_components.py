import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from geoclick.components import MAX_PARTS, cut


@given(arrays(bool, (9, 12)).filter(np.any))
def test_exact_parts_are_the_components_the_largest_first(target):
    result = cut(target, distance=0, area=1)
    labels, count = ndimage.label(target, np.ones((3, 3)))
    assert (result.joined, result.small) == (0, 0)
    assert len(result.parts) == min(count, MAX_PARTS)
    assert result.beyond == count - len(result.parts)
    areas = [int(part.sum()) for part in result.parts]
    assert areas == sorted(np.bincount(labels[target])[1:].tolist(), reverse=True)[:MAX_PARTS]
    assert np.sum(result.parts, axis=0).max() == 1
    if not result.beyond:
        np.testing.assert_array_equal(np.logical_or.reduce(result.parts), target)


@given(arrays(bool, (9, 12)).filter(np.any), st.floats(0, 12), st.integers(1, 30))
def test_parts_are_disjoint_pieces_of_the_target_and_every_component_is_counted(target, distance, area):
    result = cut(target, distance=distance, area=area)
    components = ndimage.label(target, np.ones((3, 3)))[1]
    assert len(result.parts) + result.joined + result.small + result.beyond == components
    assert not (np.logical_or.reduce(result.parts) & ~target).any()
    assert np.sum(result.parts, axis=0).max() == 1
    assert len(result.parts) == 1 or all(part.sum() >= area for part in result.parts)


def test_near_components_are_joined():
    target = np.zeros((20, 40), bool)
    target[5:10, 5:10] = target[5:10, 12:17] = target[5:10, 20:25] = True
    assert cut(target, distance=2).joined == 1
    assert cut(target, distance=1).joined == 0
    assert cut(target, distance=4).joined == 2


def test_the_number_of_parts_has_a_limit_or_none():
    target = np.zeros((2, 41), bool)
    target[:, ::2] = True
    limited = cut(target, distance=0, area=1)
    assert (len(limited.parts), limited.beyond) == (MAX_PARTS, 21 - MAX_PARTS)
    assert (len(cut(target, distance=0, area=1, most=None).parts), cut(target).parts[0].sum()) == (21, 42)
