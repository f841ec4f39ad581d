import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geoclick.distance import distance_transform, squared_distances

MAPS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def brute_force(mask):
    """Distance to the nearest false pixel of the padded map, over all pairs."""
    padded = np.pad(mask, 1)
    zeros = np.argwhere(~padded)
    distance = np.zeros(mask.shape)
    for row, column in np.argwhere(mask):
        distance[row, column] = np.sqrt(((zeros - (row + 1, column + 1)) ** 2).sum(axis=1).min())
    return distance


@given(MAPS)
def test_equals_brute_force(mask):
    np.testing.assert_array_equal(distance_transform(mask), brute_force(mask))


def test_the_border_counts_as_false():
    assert distance_transform(np.ones((5, 7), bool)).max() == 3
    assert distance_transform(np.ones((1, 7), bool)).max() == 1


def test_a_batch_equals_one_by_one():
    batch = np.random.default_rng(0).random((5, 20, 30)) < 0.8
    batch[2] = False
    np.testing.assert_array_equal(
        distance_transform(batch), np.stack([distance_transform(one) for one in batch])
    )
    assert distance_transform(batch[:0]).shape == (0, 20, 30)


BATCHES = arrays(
    bool, st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 40)), elements=st.booleans()
)


@given(BATCHES, st.integers(1, 12))
def test_squares_on_a_device_are_those_of_the_transform(maps, growth):
    # Blown up, so that distances reach beyond what is looked at in one go.
    maps = maps.repeat(growth, 1).repeat(growth, 2)
    squares = squared_distances(torch.from_numpy(maps))
    assert squares.dtype == torch.int32
    np.testing.assert_array_equal(np.sqrt(squares.numpy().astype(float)), distance_transform(maps))
