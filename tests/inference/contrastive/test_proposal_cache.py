"""Stored proposals are those that were made, and belong to one image, one set of weights and one set of settings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoclick.errors import GeoClickError
from geoclick.inference.contrastive import proposal_cache
from geoclick.inference.contrastive.proposals import ProposalSettings
from tests import tiny

SETTINGS = ProposalSettings(points_per_side=2, predicted_iou=0, stability=0, box_nms=1.0)


@pytest.fixture(scope="module")
def segmenter():
    torch.set_num_threads(1)
    made = tiny.sam_segmenter()
    made.sha256 = "1" * 64
    return made


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_the_second_call_reads_what_the_first_has_made(tmp_path, segmenter, image, monkeypatch):
    first = proposal_cache.cached(tmp_path, segmenter, image, SETTINGS)
    assert len(first) == 12
    monkeypatch.setattr(proposal_cache, "propose_with", None)
    assert proposal_cache.cached(tmp_path, segmenter, image, SETTINGS) == first
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [
        f"{proposal_cache.key(segmenter, image, SETTINGS)}.json"
    ]


def test_every_part_of_the_content_has_its_own_proposals(segmenter, image):
    other = tiny.sam_segmenter()
    other.sha256 = "2" * 64
    half = tiny.sam_segmenter()
    half.sha256, half.dtype = segmenter.sha256, torch.bfloat16
    brighter = image.copy()
    brighter[0, 0, 0] ^= 1
    keys = {
        proposal_cache.key(segmenter, image, SETTINGS),
        proposal_cache.key(other, image, SETTINGS),
        proposal_cache.key(half, image, SETTINGS),
        proposal_cache.key(segmenter, brighter, SETTINGS),
        proposal_cache.key(segmenter, image.reshape(50, 40, 3), SETTINGS),
        proposal_cache.key(segmenter, image, replace(SETTINGS, window=20)),
        proposal_cache.key(segmenter, image, replace(SETTINGS, stability=0.1)),
    }
    assert len(keys) == 7
    flipped = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    assert proposal_cache.key(segmenter, flipped, SETTINGS) in keys


def test_weights_without_a_hash_are_not_stored(tmp_path, image):
    unknown = tiny.sam_segmenter()
    unknown.sha256 = ""
    assert proposal_cache.cached(tmp_path, unknown, image, SETTINGS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"rle": {"size": [4, 4], "counts": "0"}}]', "[]]"])
def test_a_broken_file_is_named(tmp_path, segmenter, image, text):
    proposal_cache.cached(tmp_path, segmenter, image, SETTINGS)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(text)
    with pytest.raises(GeoClickError, match=f"{path.name} are broken; delete the file"):
        proposal_cache.cached(tmp_path, segmenter, image, SETTINGS)
