"""Features that were read give the maps of those that were computed, without running CLIP's image tower."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geoclick.inference.contrastive import dense, feature_cache, region_crops
from geoclick.inference.contrastive.cache import Cache, Stored
from geoclick.inference.contrastive.pipeline import load
from geoclick.inference.contrastive.settings import ContrastiveSettings


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def loaded():
    torch.set_num_threads(1)
    settings = ContrastiveSettings(points_per_side=3, predicted_iou=0, stability=0, class_bias=-0.3)
    return load("building; road; water", settings=settings)


@pytest.mark.parametrize("select", ["vote", "pool", "crop", "crop-blurred"])
def test_a_warm_map_is_the_cold_one_and_runs_no_image_tower(tmp_path, loaded, image, select, monkeypatch):
    plain = replace(loaded, settings=replace(loaded.settings, select=select))
    cold = replace(plain, cache=Cache(tmp_path)).predict(image)
    warm = replace(plain, cache=Cache(tmp_path))
    expected = plain.predict(image)
    monkeypatch.setattr(type(loaded.clip.model.vision_model), "forward", None)
    monkeypatch.setattr(dense, "dense_features", None)
    found = warm.predict(image)
    for one in (cold, found):
        assert np.array_equal(one.labels, expected.labels)
        assert np.array_equal(one.confidence, expected.confidence)
    assert warm.cache.made == 0


def test_queries_and_class_bias_share_the_features(tmp_path, loaded, image):
    cache = Cache(tmp_path)
    options = dense.WindowOptions(class_bias=-0.3)
    first = feature_cache.windows(cache, loaded.clip, image, "clearclip", options)
    feature_cache.windows(
        cache, loaded.clip, image, "clearclip", replace(options, class_bias=0.1, batch=None)
    )
    assert (cache.made, cache.read) == (1, 1)
    for other in (replace(options, long_side=224), replace(options, stride=56), replace(options, window=0)):
        feature_cache.windows(cache, loaded.clip, image, "clearclip", other)
    feature_cache.windows(cache, loaded.clip, image, "sclip", options)
    feature_cache.windows(cache, replace(loaded.clip, fingerprint="x"), image, "clearclip", options)
    feature_cache.whole(cache, loaded.clip, image, "clearclip", options)
    assert cache.made == 7
    assert first.features.shape[1:] == (14, 14, 128)


def test_crops_depend_on_masks_and_background(tmp_path, loaded, image):
    cache = Cache(tmp_path)
    proposals = loaded.regions(image).proposals[:3]
    embeddings = feature_cache.crops(cache, loaded.clip, image, proposals, "kept")
    assert torch.equal(feature_cache.crops(cache, loaded.clip, image, proposals, "kept"), embeddings)
    feature_cache.crops(cache, loaded.clip, image, proposals, "mean")
    feature_cache.crops(cache, loaded.clip, image, proposals[::-1], "kept")
    assert (cache.made, cache.read) == (3, 1)
    cosines = region_crops.crop_cosines(loaded.clip, image, proposals, loaded.text)
    assert np.array_equal(region_crops.cosines(embeddings, loaded.text), cosines)
    assert region_crops.cosines(torch.zeros(2, 0), loaded.text).tolist() == [[0, 0, 0]] * 2


def test_a_siglip_has_no_tokens():
    value = dense.WindowFeatures(torch.ones(1, 2, 2, 4, dtype=torch.float16), None)
    stored = Stored("f", feature_cache._encode_windows, feature_cache._decode_windows)
    read = stored._decode(stored._encode(value))
    assert read.tokens is None
    assert torch.equal(read.features, value.features)
    assert read.features.dtype == torch.float16
