import pytest
import torch

from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.contrastive import vision_transformer
from geoclick.inference.contrastive.dense import dense_features
from tests import tiny_clips
from tests.inference.contrastive import loops

METHODS = ["clip", "maskclip", "sclip", "gem", "clearclip", "segearth-ov"]


@pytest.fixture(scope="module")
def models():
    return {"clip": tiny_clips.clip(), "siglip": tiny_clips.siglip()}


def images(height, width, count=2):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("size", [(32, 32), (24, 48), (16, 64)], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_each_method_equals_a_loop_over_heads_and_tokens(method, size, kind, models):
    pixels = images(*size)
    features, token = dense_features(models[kind], pixels, method)
    expected, expected_token = loops.dense_features(models[kind], pixels, method)
    assert features.shape == (2, size[0] // 8, size[1] // 8, 24 if kind == "clip" else 32)
    assert (features - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (features - expected).abs().max() < 1e-4
    if kind == "siglip":
        assert token is None
    else:
        assert token.shape == (2, 24)
        assert (token - expected_token).abs().max() < 1e-4


def test_the_methods_differ(models):
    pixels = images(32, 32)
    features = [dense_features(models["clip"], pixels, method)[0] for method in METHODS]
    for number, one in enumerate(features):
        assert all((one - other).abs().max() > 0.1 for other in features[:number])


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_plain_clip_is_the_model_of_transformers(kind, models):
    model, pixels = models[kind], images(32, 32)
    features, token = dense_features(model, pixels, "clip")
    if kind == "clip":
        assert (token - model.get_image_features(pixels).pooler_output).abs().max() < 1e-5
        hidden = model.vision_model(pixels).last_hidden_state[:, 1:]
        projected = model.visual_projection(model.vision_model.post_layernorm(hidden))
        assert (features.flatten(1, 2) - projected).abs().max() < 1e-5
    else:
        hidden = model.vision_model(pixels).last_hidden_state
        pooled = model.vision_model.head(hidden.reshape(-1, 1, 32))
        assert (features.reshape(-1, 32) - pooled).abs().max() < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_equals_its_images_one_by_one(method, models):
    pixels = images(24, 40, 3)
    features, token = dense_features(models["clip"], pixels, method)
    for number in range(3):
        one, one_token = dense_features(models["clip"], pixels[number : number + 1], method)
        assert (one[0] - features[number]).abs().max() < 1e-5
        assert (one_token[0] - token[number]).abs().max() < 1e-5


def test_a_grid_with_as_many_patches_as_the_square_one_has_its_own_positions(models):
    model = models["clip"]
    weight = model.vision_model.embeddings.position_embedding.weight[1:]
    positions = vision_transformer._patch_positions(weight, (2, 8), False)
    assert positions.shape == weight.shape
    assert (positions - weight).abs().max() > 0.1


def test_gem_works_with_fewer_blocks_than_it_replaces():
    model = tiny_clips.clip()
    model.vision_model.encoder.layers = model.vision_model.encoder.layers[:3]
    pixels = images(32, 32)
    difference = dense_features(model, pixels, "gem")[0] - loops.dense_features(model, pixels, "gem")[0]
    assert difference.abs().max() < 1e-4


def test_half_precision_is_close():
    model, pixels = tiny_clips.clip(), images(32, 32)
    expected = dense_features(model, pixels, "segearth-ov")[0]
    features = dense_features(model.bfloat16(), pixels, "segearth-ov")[0]
    assert features.dtype == torch.bfloat16
    cosine = torch.nn.functional.cosine_similarity(features.float(), expected, dim=-1)
    assert cosine.min() > 0.98


def test_wrong_requests_are_one_sentence(models):
    with pytest.raises(
        UsageError, match="Unknown dense method 'proxyclip'; use one of clip, maskclip, sclip, gem"
    ):
        dense_features(models["clip"], images(32, 32), "proxyclip")
    with pytest.raises(GeoClickError, match="40x7 pixels is smaller than a patch of 8x8"):
        dense_features(models["clip"], images(7, 40), "clip")
