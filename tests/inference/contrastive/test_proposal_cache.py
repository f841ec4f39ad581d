"""Stored proposals are those that were made, and belong to one image, one set of weights and one set of settings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoclick.inference.contrastive import proposal_cache
from geoclick.inference.contrastive.cache import Cache, key
from geoclick.inference.contrastive.proposals import ProposalSettings
from tests import tiny

SETTINGS = ProposalSettings(points_per_side=2, predicted_iou=0, stability=0, box_nms=1.0)


@pytest.fixture(scope="module")
def segmenter():
    torch.set_num_threads(1)
    made = tiny.sam_segmenter()
    made.sha256 = "1" * 64
    return made


def own_key(*content):
    return key(proposal_cache.content(*content))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_the_second_call_reads_what_the_first_has_made(tmp_path, segmenter, image, monkeypatch):
    first = proposal_cache.cached(Cache(tmp_path), segmenter, image, SETTINGS)
    assert len(first) == 12
    monkeypatch.setattr(proposal_cache, "propose_with", None)
    assert proposal_cache.cached(Cache(tmp_path), segmenter, image, SETTINGS) == first
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [
        f"{own_key(segmenter, image, SETTINGS)}.cached"
    ]


def test_every_part_of_the_content_has_its_own_proposals(segmenter, image):
    other = tiny.sam_segmenter()
    other.sha256 = "2" * 64
    half = tiny.sam_segmenter()
    half.sha256, half.dtype = segmenter.sha256, torch.bfloat16
    brighter = image.copy()
    brighter[0, 0, 0] ^= 1
    keys = {
        own_key(segmenter, image, SETTINGS),
        own_key(other, image, SETTINGS),
        own_key(half, image, SETTINGS),
        own_key(segmenter, brighter, SETTINGS),
        own_key(segmenter, image.reshape(50, 40, 3), SETTINGS),
        own_key(segmenter, image, replace(SETTINGS, window=20)),
        own_key(segmenter, image, replace(SETTINGS, stability=0.1)),
    }
    assert len(keys) == 7
    flipped = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    assert own_key(segmenter, flipped, SETTINGS) in keys


def test_weights_without_a_hash_are_not_stored(tmp_path, image):
    unknown = tiny.sam_segmenter()
    unknown.sha256 = ""
    assert proposal_cache.cached(Cache(tmp_path), unknown, image, SETTINGS)
    assert list(tmp_path.iterdir()) == []
