import math

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, gelu, interpolate

from geoclick.errors import GeoClickError
from geoclick.inference.contrastive import dense, upsampler
from geoclick.inference.contrastive.upsampler import JointBilateralUpsampler
from tests import tiny_clips


def random_upsampler(dim, radius=5, seed=0):
    model = JointBilateralUpsampler(dim, radius).eval()
    tiny_clips.random_weights(model, seed)
    return model


def reflected(index, length):
    """An index beyond the border, mirrored at the outermost pixel."""
    if index < 0:
        return -index
    return 2 * (length - 1) - index if index >= length else index


def doubled(up, features, guide):
    """One step of the filter, pixel by pixel."""
    radius, height, width = up.radius, *guide.shape[1:]
    offsets = range(-radius, radius + 1)
    (first, *_, second), (fix, *_, last) = up.range_proj, up.fixup_proj

    def convolve(layer, vector):
        return layer.weight[:, :, 0, 0] @ vector + layer.bias

    keys = [
        [convolve(second, gelu(convolve(first, guide[:, y, x]))) for x in range(width)] for y in range(height)
    ]
    large = interpolate(features[None], (height, width), mode="bicubic", align_corners=False)[0]
    temperature = min(max(math.exp(float(up.range_temp)), 1e-4), 1e4)
    result = torch.zeros(len(features), height, width)
    for y in range(height):
        for x in range(width):
            places = [(reflected(y + a, height), reflected(x + b, width)) for a in offsets for b in offsets]
            similarity = torch.stack([temperature * (keys[r][c] @ keys[y][x]) for r, c in places])
            distance = torch.tensor([(a**2 + b**2) / radius**2 for a in offsets for b in offsets])
            gaussian = torch.exp(-distance / (2 * up.sigma_spatial**2))
            kernel = torch.softmax(similarity, dim=0) * gaussian
            kernel = kernel / max(float(kernel.sum()), 1e-7)
            hidden = gelu(convolve(fix, torch.cat([kernel, guide[:, y, x]])))
            kernel = kernel + 0.1 * convolve(last, hidden)
            for weight, (r, c) in zip(kernel, places, strict=True):
                result[:, y, x] += weight * large[:, r, c]
    return result


@torch.no_grad()
def by_loops(model, features, guide):
    while features.shape[-1] < guide.shape[-1]:
        size = 2 * features.shape[-2], 2 * features.shape[-1]
        small = adaptive_avg_pool2d(guide, size)
        features = torch.stack([doubled(model.up, f, g) for f, g in zip(features, small, strict=True)])
    layer = model.fixup_proj[1]
    fixed = torch.einsum("oi,bihw->bohw", layer.weight[:, :, 0, 0], features) + layer.bias[:, None, None]
    return features + 0.1 * fixed


def random_input(batch, dim, height, width, factor):
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(batch, dim, height, width, generator=generator)
    return features, torch.randn(batch, 3, factor * height, factor * width, generator=generator)


@pytest.mark.parametrize(("height", "width", "radius"), [(3, 4, 5), (2, 5, 3)])
def test_the_filter_equals_a_loop_over_pixels(height, width, radius):
    model = random_upsampler(6, radius)
    features, guide = random_input(2, 6, height, width, 4)
    upsampled = model(features, guide)
    expected = by_loops(model, features, guide)
    assert upsampled.shape == (2, 6, 4 * height, 4 * width)
    assert (upsampled - expected).abs().max() < 1e-4


def test_a_patch_of_16_pixels_is_four_doublings():
    model = random_upsampler(2)
    features, guide = random_input(1, 2, 3, 3, 16)
    assert model(features, guide).shape == (1, 2, 48, 48)


def published(model):
    """The weights as they are published: a training checkpoint, with a prefix."""
    state = {f"upsampler.{key}": value for key, value in model.state_dict().items()}
    return {"epoch": 1, "state_dict": state, "optimizer_states": [], "pytorch-lightning_version": "1.9.4"}


def test_the_published_layout_is_loaded(tmp_path):
    model = random_upsampler(8)
    assert set(published(model)["state_dict"]) == {
        *("upsampler.up.range_temp", "upsampler.up.sigma_spatial"),
        *(f"upsampler.up.range_proj.{layer}.{kind}" for layer in (0, 3) for kind in ("weight", "bias")),
        *(f"upsampler.up.fixup_proj.{layer}.{kind}" for layer in (0, 3) for kind in ("weight", "bias")),
        *("upsampler.fixup_proj.1.weight", "upsampler.fixup_proj.1.bias"),
    }
    torch.save(published(model), tmp_path / "jbu.ckpt")
    loaded = upsampler.load(tmp_path / "jbu.ckpt")
    features, guide = random_input(1, 8, 3, 3, 4)
    assert torch.equal(loaded(features, guide), model(features, guide))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_the_published_sizes_have_290_thousand_parameters():
    count = sum(parameter.numel() for parameter in JointBilateralUpsampler(512).parameters())
    assert 285_000 < count < 295_000


def test_other_files_are_errors(tmp_path):
    path = tmp_path / "jbu.ckpt"
    with pytest.raises(GeoClickError, match=r"upsampler file .* does not exist"):
        upsampler.load(path)
    state = published(random_upsampler(8))
    stack = {key.replace(".up.", ".up1."): value for key, value in state["state_dict"].items()}
    torch.save({"state_dict": stack}, path)
    with pytest.raises(GeoClickError, match="is not SegEarth-OV's feature upsampler of one filter"):
        upsampler.load(path)
    torch.save({"state_dict": state["state_dict"] | {"upsampler.more": torch.ones(1)}}, path)
    with pytest.raises(GeoClickError, match="has other weights"):
        upsampler.load(path)
    torch.save(state | {"hyper_parameters": print}, path)
    with pytest.raises(GeoClickError, match="holds code or objects"):
        upsampler.load(path)


def test_sizes_that_do_not_fit_are_errors():
    model = random_upsampler(2)
    with pytest.raises(GeoClickError, match="cannot bring 3x3 features to 42x42 pixels"):
        model(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 42, 42))
    with pytest.raises(GeoClickError, match="cannot bring"):
        model(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 24, 48))
    with pytest.raises(GeoClickError, match="needs windows of more than 2 patches a side, not 2x9"):
        model(torch.zeros(1, 2, 2, 9), torch.zeros(1, 3, 32, 144))


def test_windows_are_upsampled_before_they_are_compared_with_the_text():
    clip, model = tiny_clips.clip(), random_upsampler(24, radius=3)
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    text = torch.nn.functional.normalize(torch.randn(3, 24), dim=-1)
    options = dense.WindowOptions(long_side=56, window=32, stride=24, class_bias=-0.3)
    logits = dense.small_logits(clip, image, text, "segearth-ov", options, model)
    total, count = torch.zeros(3, 40, 56), torch.zeros(40, 56)
    pixels = dense.normalized(image, clip, options)
    for top in (0, 8):
        for left in (0, 24):
            guide = pixels[None, :, top : top + 32, left : left + 32]
            features, token = dense.dense_features(clip, guide, "segearth-ov")
            large = model(features.permute(0, 3, 1, 2), guide)[0]
            large = large / large.norm(dim=0)
            bias = -0.3 * (text @ (token[0] / token[0].norm()))
            total[:, top : top + 32, left : left + 32] += (
                torch.einsum("dhw,qd->qhw", large, text) + bias[:, None, None]
            )
            count[top : top + 32, left : left + 32] += 1
    assert (logits - total / count).abs().max() < 1e-5
