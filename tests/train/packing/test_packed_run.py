"""`geoclick train sft --packing-tokens`: complete runs."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from geoclick.train import sft
from tests import tiny

BUDGET = 300


@pytest.fixture(scope="module", params=[pytest.param("qwen2_5_vl", marks=pytest.mark.slow), "qwen3_vl"])
def setting(request, tmp_path_factory):
    """The flags of every run: a tiny VLM, 16 rows, a budget of about four of them."""
    folder = tmp_path_factory.mktemp(request.param)
    base = tiny.FOLDERS[request.param](folder / "vlm")
    clicks, root = tiny.click_store(folder, rows=16)
    flags = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--learning_rate", 0.01]
    flags += ["--logging_steps", 1, "--use_cpu", "true", "--lora-dropout", 0.1, "--save_total_limit", 9]
    return [str(flag) for flag in flags]


@pytest.fixture(scope="module")
def packed(setting):
    return [*setting, "--packing-tokens", str(BUDGET), "--feature-memory-gb", "0", "--num_train_epochs", "2"]


def read(output):
    return json.loads((output / "metrics.json").read_text())


def losses(output):
    return [entry["loss"] for entry in read(output)["loss"]]


def same_weights(one, two):
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (one, two))
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_a_resumed_run_equals_an_uninterrupted_one_and_learns(packed, tmp_path):
    """Resumed during the second epoch, whose packs differ from those of the first."""
    packed = [*packed, "--save_strategy", "steps", "--save_steps", "1"]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert sft.main([*packed, "--output", str(whole)]) == 0
    metrics = read(whole)
    packs, steps = metrics["packs"], metrics["steps"]
    assert steps == 2 * packs
    assert packs < 8
    assert metrics["rows"] == 16
    assert metrics["rows_left_out"]["too_long"] == 0
    assert 0.5 < metrics["packs_filled"] <= 1
    assert metrics["samples_per_second"] * metrics["seconds"] == pytest.approx(32, rel=0.02)
    assert losses(whole)[-1] < losses(whole)[0]
    shutil.copytree(whole, resumed)
    for name in ("adapter_model.safetensors", "geoclick.json", "metrics.json"):
        (resumed / name).unlink()
    for step in range(packs + 2, steps + 1):
        shutil.rmtree(resumed / f"checkpoint-{step}")
    config = (resumed / "config.yaml").read_text().replace(str(whole), str(resumed))
    (resumed / "config.yaml").write_text(config)
    assert sft.main([*packed, "--output", str(resumed), "--resume"]) == 0
    assert read(resumed)["seconds"] > 0
    assert same_weights(whole, resumed)
    assert losses(whole) == losses(resumed)


@pytest.mark.parametrize("towers", [["language_model"], ["language_model", "projector", "vision"]])
def test_the_first_step_over_all_rows_is_that_of_the_padded_batch(towers, setting, tmp_path):
    """Gradient accumulation over every pack, checkpointed, against one padded batch of every row."""
    common = [*setting, "--tune", *towers, "--lora-dropout", "0", "--save_strategy", "no", "--max_steps", "1"]
    common += ["--feature-memory-gb", "0", "--optim", "sgd", "--learning_rate", "1", "--warmup_steps", "0"]
    common += ["--max_grad_norm", "0"]
    padded, packed = tmp_path / "padded", tmp_path / "packed"
    assert sft.main([*common, "--output", str(padded), "--per_device_train_batch_size", "16"]) == 0
    budget = ["--packing-tokens", str(BUDGET), "--gradient_accumulation_steps", "8"]
    budget += ["--gradient_checkpointing", "true"]
    assert sft.main([*common, "--output", str(packed), *budget]) == 0
    assert losses(packed) == pytest.approx(losses(padded), rel=1e-5)
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (padded, packed))
    assert any("visual.blocks" in key for key in one) == ("vision" in towers)
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=1e-5)


def test_rows_over_the_budget_are_left_out_and_counted(packed, tmp_path, capsys):
    short = [*packed, "--save_strategy", "no", "--num_train_epochs", "1", "--output", str(tmp_path / "run")]
    assert sft.main([*short, "--packing-tokens", "60"]) == 0
    metrics = read(tmp_path / "run")
    assert 0 < metrics["rows_left_out"]["too_long"] < 16
    assert metrics["rows"] + metrics["rows_left_out"]["too_long"] == 16
    capsys.readouterr()
    assert sft.main([*short[:-1], str(tmp_path / "none"), "--packing-tokens", "5"]) == 1
    assert "raise packing_tokens" in capsys.readouterr().err


def test_features_in_memory_change_nothing(packed, tmp_path):
    """The packs of both epochs are the same, whether or not a machine has the memory for the features."""
    common = [*packed, "--save_strategy", "no"]
    outputs = [tmp_path / "tower", tmp_path / "memory"]
    for output, memory in zip(outputs, ("0", "1"), strict=True):
        flags = ["--lora-dropout", "0", "--feature-memory-gb", memory]
        assert sft.main([*common, *flags, "--output", str(output)]) == 0
    assert read(outputs[0])["vision_features_bytes"] == 0 < read(outputs[1])["vision_features_bytes"]
    assert losses(outputs[1]) == pytest.approx(losses(outputs[0]), rel=1e-4)


@pytest.mark.slow
def test_two_processes_share_the_packs_of_one_run(packed, tmp_path):
    """Two processes, a pack each, and one process that accumulates over two packs: the same global batches."""
    common = [*packed, "--lora-dropout", "0", "--save_strategy", "no", "--packing-tokens", "180"]
    one, two = tmp_path / "one", tmp_path / "two"
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    launch += [
        "--config_file",
        "accelerate_configs/cpu2.yaml",
        "-m",
        "geoclick.train.sft",
        *common,
        "--output",
        str(two),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sft.main([*common, "--output", str(one), "--gradient_accumulation_steps", "2"]) == 0
    assert read(two)["packs"] == read(one)["packs"]
    assert read(two)["samples_per_second"] * read(two)["seconds"] == pytest.approx(32, rel=0.05)
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
