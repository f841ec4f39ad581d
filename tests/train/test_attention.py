"""Attention and dtype of runs: the losses do not depend on the attention."""

import importlib.util
import json

import pytest
import torch

from geoclick import vlms
from geoclick.train import grpo, sft
from geoclick.train.loop.attention import for_generation
from tests import tiny
from tests.train.adapters import random_adapter
from tests.train.samples import listed

BATCHES = {"padded": ["--per_device_train_batch_size", "4"], "packed": ["--packing-tokens", "600"]}


def flags_of(folder, *, side, vlm):
    clicks, root = tiny.click_store(folder, rows=8, side=side)
    words = ["--vlm", vlm, "--clicks", clicks, "--root", root, "--max_steps", 3, "--learning_rate", 0.01]
    return [str(word) for word in [*words, "--logging_steps", 1, "--save_strategy", "no"]]


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attention")
    base = tiny.qwen3_vl_folder(folder / "vlm")
    return [*flags_of(folder, side=64, vlm=base), "--use_cpu", "true", "--lora-r", "4"]


def losses(flags, output, *words):
    assert sft.main([*flags, *words, "--output", str(output)]) == 0
    return [entry["loss"] for entry in json.loads((output / "metrics.json").read_text())["loss"]]


@pytest.mark.parametrize("batches", BATCHES)
def test_eager_attention_has_the_losses_of_sdpa(batches, flags, tmp_path, monkeypatch):
    used, make = [], sft.make_trainer

    def recorded(*words):
        trainer = make(*words)
        used.append(trainer.model.config.text_config._attn_implementation)
        return trainer

    monkeypatch.setattr(sft, "make_trainer", recorded)
    plain = losses(flags, tmp_path / "sdpa", *BATCHES[batches])
    eager = losses(flags, tmp_path / "eager", *BATCHES[batches], "--attn-implementation", "eager")
    assert eager == pytest.approx(plain, abs=1e-4)
    assert used == ["sdpa_by_sample" if batches == "packed" else "sdpa", "eager"]


def test_weights_in_bfloat16_give_nearly_the_same_losses(flags, tmp_path, monkeypatch):
    dtypes, make = [], sft.make_trainer

    def recorded(*words):
        trainer = make(*words)
        dtypes.append({weight.dtype for weight in trainer.model.parameters() if not weight.requires_grad})
        return trainer

    monkeypatch.setattr(sft, "make_trainer", recorded)
    plain = losses(flags, tmp_path / "float32")
    half = losses(flags, tmp_path / "bfloat16", "--dtype", "bfloat16", "--bf16", "true")
    assert dtypes == [{torch.float32}, {torch.bfloat16}]
    assert half == pytest.approx(plain, rel=0.03)
    assert half != plain


def test_a_module_that_is_trained_completely_has_float32_weights_where_the_run_computes_in_half(
    flags, tmp_path, monkeypatch, capsys
):
    dtypes, make = [], sft.make_trainer

    def recorded(*words):
        trainer = make(*words)
        dtypes.append({weight.dtype for weight in trainer.model.parameters() if weight.requires_grad})
        return trainer

    monkeypatch.setattr(sft, "make_trainer", recorded)
    words = ["--dtype", "bfloat16", "--unfreeze", "projector"]
    losses(flags, tmp_path / "run", *words, "--bf16", "true")
    assert dtypes == [{torch.float32}]
    assert sft.main([*flags, *words, "--output", str(tmp_path / "other")]) == 2
    assert "modules that are trained completely need bf16" in capsys.readouterr().err


def test_grpo_takes_eager_attention_and_refuses_flash(tmp_path, capsys, monkeypatch):
    base = tiny.qwen3_vl_folder(tmp_path / "vlm")
    adapter, root = random_adapter(tmp_path / "lora", base), listed(tmp_path / "data", ["a", "b", "c", "d"])
    words = [
        "--adapter",
        adapter,
        "--root",
        root,
        "--use_cpu",
        "true",
        "--max_steps",
        1,
        "--num_generations",
        4,
    ]
    words += ["--per_device_train_batch_size", 4, "--max_completion_length", 4, "--output", tmp_path / "run"]
    words = [str(word) for word in words]
    monkeypatch.setattr("geoclick.train.options.compute.find_spec", lambda name: name)
    assert grpo.main([*words, "--attn-implementation", "flash_attention_2"]) == 2
    assert "share their prompt" in capsys.readouterr().err
    assert grpo.main([*words, "--attn-implementation", "eager"]) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["steps"] == 1


def test_answers_are_generated_without_flash_attention(tmp_path):
    model = vlms.load(str(tiny.qwen3_vl_folder(tmp_path))).model
    config = model.model.language_model.config
    for name, expected in (
        ("flash_attention_2", "sdpa"),
        ("kernels-community/flash-attn2", "sdpa"),
        ("eager", "eager"),
    ):
        config._attn_implementation_internal = name
        with for_generation(model):
            assert config._attn_implementation == expected
        assert config._attn_implementation == name


GPU_WAYS = {
    "eager": [],
    "flash_attention_2": ["flash_attn", "kernels"],
    "flash_attention_3": ["flash_attn_interface", "kernels"],
    "kernels-community/flash-attn2": ["kernels"],
    "liger": ["liger_kernel"],
    "compiled": [],
}


@pytest.mark.gpu
@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("way", GPU_WAYS)
def test_on_a_gpu_each_way_has_the_losses_of_sdpa(way, batches, tmp_path):
    """In bfloat16, on the embedded model. Kernels of the hub must be in its cache."""
    packages = GPU_WAYS[way]
    if packages and not any(map(importlib.util.find_spec, packages)):
        pytest.skip(f"needs the package {' or '.join(packages)}")
    extra = {"liger": ["--use_liger_kernel", "true"], "compiled": ["--torch_compile", "true"]}
    flags = [*flags_of(tmp_path, side=256, vlm="embedded"), *BATCHES[batches]]
    plain = losses(flags, tmp_path / "sdpa")
    other = losses(flags, tmp_path / "other", *extra.get(way, ["--attn-implementation", way]))
    assert other == pytest.approx(plain, rel=0.02)
