"""Estimates of memory and time from shapes, against the tensors in memory and against published figures."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from geoclick import vlms
from geoclick.train.loop import estimates
from geoclick.train.loop.cards import CARDS
from geoclick.train.loop.estimates import Shapes, Work
from geoclick.vlms.families import FAMILIES
from tests import tiny

TOKENS = 64

QWEN2_5_7B = Shapes(
    layers=28,
    hidden=3584,
    intermediate=18944,
    queries=3584,
    keys=512,
    normalized=False,
    vocabulary=152064,
    layer_weights=28 * (2 * 3584 * 3584 + 2 * 3584 * 512 + 3 * 3584 * 18944),
    vision_weights=0,
    other_weights=2 * 152064 * 3584,
)


def work(**changes):
    values = {
        "longest": 4096,
        "tokens": 4096.0,
        "squares": 4096.0 * 512,
        "patches": 0.0,
        "accumulated": 1,
        "trained": 80_000_000,
        "checkpointed": False,
        "quantized": False,
        "shares": 1,
    }
    return Work(**values | changes)


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def model(request, tmp_path_factory):
    """A tiny VLM in bfloat16 with LoRA in float32, as on a GPU."""
    vlm = vlms.load(
        str(tiny.FOLDERS[request.param](tmp_path_factory.mktemp("vlm"))), device="cpu", dtype=torch.bfloat16
    )
    targets = FAMILIES[request.param].lora_targets()
    return get_peft_model(vlm.model, LoraConfig(r=1, target_modules=targets, task_type="CAUSAL_LM"))


def kept_bytes(model):
    """Bytes that the layers of the language model keep of `TOKENS` tokens for the backward pass."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if TOKENS in tensor.shape:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    alive = []
    language = model.get_base_model().model.language_model
    embeddings = torch.randn(1, TOKENS, language.config.hidden_size, dtype=torch.bfloat16)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        output = language(inputs_embeds=embeddings.requires_grad_(), use_cache=False).last_hidden_state
    assert output.requires_grad
    return sum(kept.values())


def test_activations_are_about_those_that_are_kept(model):
    shapes = estimates.shapes_of(model)
    estimated = TOKENS * estimates.activation_bytes(shapes, checkpointed=False)
    assert estimated == pytest.approx(kept_bytes(model), rel=0.3)


def test_weights_are_counted_without_lora(model):
    shapes = estimates.shapes_of(model)
    base = copy.deepcopy(model).unload()
    total = sum(weight.numel() for weight in base.parameters())
    assert shapes.layer_weights + shapes.vision_weights + shapes.other_weights == total
    assert 0 < shapes.vision_weights < total


def test_time_is_near_a_published_training():
    """LoRA of Qwen2.5-7B on one H100 in bfloat16: 14,110 tokens a second."""
    speed = 4096 / estimates.step_seconds(QWEN2_5_7B, work(), CARDS["h100-80gb"])
    assert speed == pytest.approx(14_110, rel=0.2)


def test_memory_follows_from_what_a_run_keeps():
    plain = estimates.peak_bytes(QWEN2_5_7B, work())
    assert plain > estimates.peak_bytes(QWEN2_5_7B, work(checkpointed=True))
    assert plain > estimates.peak_bytes(QWEN2_5_7B, work(quantized=True))
    assert plain > estimates.peak_bytes(QWEN2_5_7B, work(shares=4))
    more = work(trained=90_000_000)
    assert estimates.peak_bytes(QWEN2_5_7B, more) - plain == pytest.approx(16 * 10_000_000)
    assert estimates.base_bytes(QWEN2_5_7B, work()) == pytest.approx(15.2e9, rel=0.02)
