"""Files of Qwen3-VL-MoE hold the experts' weights in one of two layouts, which only the shapes show."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from geoclick.errors import GeoClickError
from geoclick.vlms import loading
from tests import tiny_families


def transpose_experts(folder):
    """Rewrite the weights of a folder as the published ones are: [experts, inputs, outputs]."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    turned = [name for name in weights if ".mlp.experts." in name]
    weights |= {name: weights[name].transpose(1, 2).contiguous() for name in turned}
    save_file(weights, path, {"format": "pt"})
    return len(turned)


def test_both_layouts_load_to_the_same_model(tmp_path):
    folder = tiny_families.qwen3_vl_moe_folder(tmp_path)
    before = loading.load_model(folder, torch.float32).state_dict()
    assert transpose_experts(folder) == 4
    after = loading.load_model(folder, torch.float32).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("width", [16, 32])
def test_square_experts_are_refused(width, tmp_path, monkeypatch):
    monkeypatch.setitem(tiny_families.EXPERTS, "moe_intermediate_size", width)
    folder = tiny_families.qwen3_vl_moe_folder(tmp_path, hidden=32)
    with pytest.raises(
        GeoClickError, match=r"have square weights \(hidden_size 32, .*; give a model of other sizes"
    ):
        loading.load_model(folder, torch.float32)


def test_experts_of_qwen3_5_may_be_square(tmp_path, monkeypatch):
    """All its files have one layout."""
    monkeypatch.setitem(tiny_families.EXPERTS, "moe_intermediate_size", 16)
    folder = tiny_families.qwen3_5_moe_folder(tmp_path, hidden=32)
    assert loading.load_model(folder, torch.float32).config.model_type == "qwen3_5_moe"
