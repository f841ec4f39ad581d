from itertools import pairwise

import numpy as np
import pytest
import torch

from geoclick.inference.contrastive import dense
from geoclick.inference.contrastive.dense_map import ROWS, DenseMap

CLASSES = [0, 1, 1]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (ROWS + 40, 90, 3), dtype=np.uint8)


def small_logits(tile):
    """Three queries that depend on the colors, at half the size."""
    return torch.from_numpy(tile[::2, ::2].astype(np.float32) / 2550).permute(2, 0, 1)


def test_one_tile_gives_the_labels_and_probabilities_of_the_complete_logits(image):
    size = image.shape[:2]
    logits = dense.enlarge(small_logits(image), size)
    dense_map = DenseMap(image, small_logits, tile=1000, overlap=8)
    expected = dense.labels(logits, CLASSES, threshold=0.6)
    assert 0 < (expected == 0).mean() < 1
    assert np.array_equal(dense_map.labels(CLASSES, threshold=0.6), expected)
    probabilities = dense.class_probabilities(logits, CLASSES)
    assert torch.allclose(dense_map.probabilities(CLASSES).float(), probabilities, atol=1e-3)
    chosen = 1 - expected
    assert np.allclose(
        dense_map.confidence(CLASSES, chosen), np.choose(chosen, probabilities.numpy()), atol=1e-6
    )


def test_tiles_blend_and_the_model_runs_once(image):
    calls = []

    def counted(tile):
        calls.append(tile.shape)
        return small_logits(tile)

    dense_map = DenseMap(image, counted, tile=64, overlap=16)
    labels = dense_map.labels(CLASSES)
    tiles = len(calls)
    assert tiles == 6 * 2
    assert set(calls) == {(64, 64, 3)}
    rows = [rows for rows, _ in dense_map.strips()]
    assert (rows[0].start, rows[-1].stop) == (0, len(image))
    assert all(one.stop == other.start for one, other in pairwise(rows))
    assert np.array_equal(dense_map.labels(CLASSES), labels)
    assert dense_map.confidence(CLASSES, labels).min() >= 0.5 - 0.2
    assert len(calls) == tiles
