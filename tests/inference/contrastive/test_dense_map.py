from itertools import pairwise

import numpy as np
import pytest
import torch

from geoclick.inference.contrastive import dense, dense_map
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
    made = DenseMap(image, small_logits, CLASSES, tile=1000, overlap=8)
    expected = dense.labels(logits, CLASSES, threshold=0.6)
    assert 0 < (expected == 0).mean() < 1
    assert np.array_equal(made.labels(threshold=0.6), expected)
    probabilities = dense.class_probabilities(logits, CLASSES)
    assert torch.allclose(made.probabilities().float(), probabilities, atol=1e-3)
    chosen = 1 - expected
    assert np.allclose(made.confidence(chosen), np.choose(chosen, probabilities.numpy()), atol=1e-6)


def test_tiles_blend_and_the_model_runs_once(image):
    calls = []

    def counted(tile):
        calls.append(tile.shape)
        return small_logits(tile)

    made = DenseMap(image, counted, CLASSES, tile=64, overlap=16)
    labels = made.labels()
    tiles = len(calls)
    assert tiles == 6 * 2
    assert set(calls) == {(64, 64, 3)}
    rows = [rows for rows, _ in made.strips()]
    assert (rows[0].start, rows[-1].stop) == (0, len(image))
    assert all(one.stop == other.start for one, other in pairwise(rows))
    assert np.array_equal(made.labels(), labels)
    assert made.confidence(labels).min() >= 0.5 - 0.2
    assert len(calls) == tiles


@pytest.mark.parametrize("held", [0, dense_map.HELD])
def test_probabilities_are_computed_once_unless_the_image_is_too_large(image, monkeypatch, held):
    monkeypatch.setattr(dense_map, "HELD", held)
    runs = []

    def counted(*arguments, **settings):
        runs.append(arguments)
        return dense.class_probabilities(*arguments, **settings)

    monkeypatch.setattr(dense_map, "class_probabilities", counted)
    made = DenseMap(image, small_logits, CLASSES, tile=1000, overlap=8, scale=20)
    labels = made.labels(threshold=0.6)
    confidence = made.confidence(labels)
    assert len(runs) == (2 if held else 4)
    probabilities = dense.class_probabilities(
        dense.enlarge(small_logits(image), image.shape[:2]), CLASSES, scale=20
    ).numpy()
    assert np.allclose(confidence, np.choose(labels, probabilities), atol=1e-6)
    best, highest = made.best()
    assert np.array_equal(dense_map.above(best, highest, threshold=0.6, background=0), labels)
    assert np.allclose(highest, probabilities.max(0), atol=1e-6)
