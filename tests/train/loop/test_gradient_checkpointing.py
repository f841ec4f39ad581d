"""Which layers are computed twice, counted in real runs of `geoclick train sft`."""

from collections import Counter

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from geoclick.train import sft
from tests import tiny

STEPS = 2


@pytest.fixture(
    scope="module",
    params=["qwen3_vl", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen2_vl", "qwen2_5_vl"))],
)
def flags(request, tmp_path_factory):
    """The flags of a run of two steps with gradient checkpointing."""
    folder = tmp_path_factory.mktemp(request.param)
    base = tiny.FOLDERS[request.param](folder / "vlm")
    clicks, root = tiny.click_store(folder, rows=4)
    flags = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--learning_rate", 0.01]
    flags += ["--max_steps", STEPS, "--use_cpu", "true", "--save_strategy", "no", "--feature-memory-gb", 0]
    return [str(flag) for flag in [*flags, "--gradient_checkpointing", "true"]]


@pytest.fixture
def calls(monkeypatch):
    """How often layers of the vision tower and the language model ran, counted at their attention."""
    found = Counter()
    forward = nn.Module.__call__

    def count(module, *args, **kwargs):
        name = type(module).__name__
        if "VisionAttention" in name:
            found["vision"] += 1
        elif "Attention" in name:
            found["language_model"] += 1
        return forward(module, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "__call__", count)
    return found


@pytest.mark.parametrize("tower", ["language_model", "projector", "vision"])
def test_only_trained_towers_are_computed_twice(flags, tower, calls, tmp_path):
    assert sft.main([*flags, "--tune", "language_model", tower, "--output", str(tmp_path)]) == 0
    depth = transformers.AutoConfig.from_pretrained(flags[1]).vision_config.depth
    layers = transformers.AutoConfig.from_pretrained(flags[1]).text_config.num_hidden_layers
    assert calls["language_model"] == 2 * layers * STEPS
    assert calls["vision"] == (2 if tower == "vision" else 1) * depth * STEPS


def test_reentrant_checkpointing_trains_the_vision_tower_too(flags, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("gradient_checkpointing_kwargs: {use_reentrant: true}\ntune: [vision]\n")
    assert sft.main([*flags, "--config", str(file), "--output", str(tmp_path / "run")]) == 0
    weights = load_file(tmp_path / "run" / "adapter_model.safetensors")
    assert all(torch.any(value != 0) for name, value in weights.items() if "lora_B" in name)
