import sys

import pytest
import torch

from geoclick import vlms
from geoclick.errors import GeoClickError
from geoclick.train.packing import linear_attention
from tests import tiny_families

LENGTHS = [3, 70, 5, 66, 40, 1]


@pytest.fixture(scope="module", params=tiny_families.RECURRENT)
def layer(request, tmp_path_factory):
    """A prepared layer of linear attention."""
    folder = tiny_families.FOLDERS[request.param](tmp_path_factory.mktemp("vlm"))
    model = vlms.load(str(folder), device="cpu", dtype=torch.float32).model
    linear_attention.prepare(model)
    # A second time changes nothing.
    module = sys.modules[type(linear_attention.layers(model)[0]).__module__]
    before = module.torch_chunk_gated_delta_rule
    linear_attention.prepare(model)
    assert module.torch_chunk_gated_delta_rule is before
    return linear_attention.layers(model)[0]


def test_groups_hold_every_sample_and_little_padding():
    found = linear_attention.groups(LENGTHS)
    assert found == [[1, 3, 4], [2, 0], [5]]
    assert linear_attention.groups([]) == []


def test_each_sample_has_the_output_and_gradient_that_it_has_alone(layer):
    torch.manual_seed(0)
    row = torch.randn(1, sum(LENGTHS), 32, requires_grad=True)
    packed = layer(row, sample_lengths=LENGTHS)
    alone = torch.cat([layer(sample) for sample in row.split(LENGTHS, dim=1)], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-6)
    weight = torch.randn_like(packed)
    expected = torch.autograd.grad((alone * weight).sum(), [row, *layer.parameters()])
    found = torch.autograd.grad((packed * weight).sum(), [row, *layer.parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # Without the lengths, states pass from sample to sample.
    mixed = layer(row)
    assert (mixed - alone).abs().max() > 0.01 * alone.abs().max()
    torch.testing.assert_close(mixed[:, : LENGTHS[0]], alone[:, : LENGTHS[0]], rtol=1e-5, atol=1e-6)


def test_functions_of_other_names_are_an_error_of_one_sentence(tmp_path, monkeypatch):
    model = vlms.load(str(tiny_families.qwen3_5_folder(tmp_path)), device="cpu").model
    module = sys.modules[type(linear_attention.layers(model)[0]).__module__]
    monkeypatch.delattr(module, "causal_conv1d_fn")
    with pytest.raises(GeoClickError, match="has no causal_conv1d_fn, so that samples in a pack would mix"):
        linear_attention.prepare(model)
