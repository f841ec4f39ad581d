"""The fused attention layers equal segment-anything's, also in groups of heads, and are differentiable."""

import copy

import pytest
import torch
from segment_anything.modeling import image_encoder, transformer

from geoclick.segmenters import fused


def encoder_attention(relative):
    torch.manual_seed(0)
    attention = image_encoder.Attention(24, num_heads=3, use_rel_pos=relative, input_size=(6, 5))
    if relative:
        torch.nn.init.normal_(attention.rel_pos_h)
        torch.nn.init.normal_(attention.rel_pos_w)
    return attention


def as_fused(attention):
    twin = copy.deepcopy(attention)
    fused.fuse(twin)
    assert type(twin) is not type(attention)
    return twin


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("limit", [1, 2 * 2 * 30 * 30, 2**24])
def test_encoder_attention_equals_segment_anything(monkeypatch, relative, limit):
    monkeypatch.setitem(fused.MASK_ELEMENTS, "cpu", limit)
    attention = encoder_attention(relative)
    tokens = torch.randn(2, 6, 5, 24)
    torch.testing.assert_close(as_fused(attention)(tokens), attention(tokens))


@pytest.mark.parametrize(("queries", "keys"), [(7, 50), (50, 7), (7, 7)])
def test_decoder_attention_equals_segment_anything(queries, keys):
    torch.manual_seed(0)
    attention = transformer.Attention(32, num_heads=4, downsample_rate=2)
    q, k, v = torch.randn(3, queries, 32), torch.randn(3, keys, 32), torch.randn(3, keys, 32)
    torch.testing.assert_close(as_fused(attention)(q, k, v), attention(q, k, v))


def test_gradients_equal_segment_anything():
    attention = encoder_attention(relative=True)
    twin, tokens = as_fused(attention), torch.randn(2, 6, 5, 24)
    for layer in (attention, twin):
        layer(tokens).square().sum().backward()
    for mine, theirs in zip(twin.parameters(), attention.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)
