"""Small regions are removed as by segment-anything's mask generator."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from segment_anything.utils import amg

from geoclick.inference.contrastive.small_regions import without_small_regions
from tests.inference.contrastive.conftest import components


@pytest.fixture(scope="module", autouse=True)
def opencv():
    """The module `cv2` of segment-anything's function."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cv2", SimpleNamespace(connectedComponentsWithStats=components))
        yield


@given(seed=st.integers(0, 2**32 - 1), minimum=st.integers(1, 40))
def test_any_mask(seed, minimum):
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 24, 2)
    mask = rng.random(size) < rng.choice([0.05, 0.4, 0.6, 0.95])
    if rng.random() < 0.5:
        empty = np.zeros_like(mask)
        rows, columns = (slice(*sorted(rng.integers(0, n + 1, 2))) for n in size)
        empty[rows, columns] = mask[rows, columns]
        mask = empty
    expected, holes = amg.remove_small_regions(mask, minimum, "holes")
    expected, islands = amg.remove_small_regions(expected, minimum, "islands")
    ours = without_small_regions(mask, minimum)
    np.testing.assert_array_equal(ours, expected)
    assert (ours is mask) == (not holes and not islands)


def test_the_largest_island_remains():
    mask = np.zeros((9, 9), bool)
    mask[1, 1], mask[4:6, 4:6], mask[8, 0:3] = True, True, True
    expected = np.zeros_like(mask)
    expected[4:6, 4:6] = True
    np.testing.assert_array_equal(without_small_regions(mask, 50), expected)
