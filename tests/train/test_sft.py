import dataclasses
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from peft import AutoPeftModel
from safetensors.torch import load_file
from transformers import AutoProcessor

from geoclick import masks, option_values, store, vlms
from geoclick.train import sft
from geoclick.train.loop import checkpoints
from geoclick.train.options import ranges
from geoclick.train.options.sft import parse
from geoclick.train.publishing import card_text
from tests import tiny


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """The flags of every run: a tiny VLM, 16 rows."""
    folder = tmp_path_factory.mktemp("sft")
    base = tiny.qwen3_vl_folder(folder / "vlm")
    clicks, root = tiny.click_store(folder, rows=16)
    flags = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--num_train_epochs", 1]
    flags += ["--learning_rate", 0.01, "--logging_steps", 1, "--save_strategy", "steps", "--save_steps", 2]
    return [
        str(flag) for flag in [*flags, "--use_cpu", "true", "--lora-dropout", 0.1, "--save_total_limit", 5]
    ]


@pytest.fixture(scope="module")
def whole(setting, tmp_path_factory):
    """A run of four steps that was not interrupted."""
    output = tmp_path_factory.mktemp("whole") / "run"
    assert sft.main([*setting, "--output", str(output)]) == 0
    return output


def losses(output):
    return [entry["loss"] for entry in json.loads((output / "metrics.json").read_text())["loss"]]


def same_weights(one, two):
    one, two = (load_file(folder / "adapter_model.safetensors") for folder in (one, two))
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_a_run_writes_an_adapter_that_loads_with_its_provenance(setting, whole):
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["steps"] == 4
    assert metrics["rows"] == 16
    assert metrics["samples_per_second"] > 0
    assert metrics["trainable_parameters"]["language_model"] > 0
    assert metrics["trainable_parameters"]["projector"] == metrics["trainable_parameters"]["vision"] == 0
    assert losses(whole)[-1] < losses(whole)[0]
    for folder in (whole, whole / "checkpoint-2"):
        vlm = vlms.load(setting[1], adapter=folder)
        assert vlm.record.answer_format == "compact"
        assert vlm.record.config["lora_r"] == 4
        assert vlm.record.config["learning_rate"] == 0.01
    assert not list(whole.rglob("*.bin"))


def test_the_folder_of_a_run_is_complete_for_other_tools(setting, whole):
    assert AutoPeftModel.from_pretrained(str(whole)).peft_config["default"].r == 4
    assert AutoProcessor.from_pretrained(whole).image_token == "<|image_pad|>"
    text = (whole / "README.md").read_text()
    assert card_text.MARK in text
    assert "| steps | 4 |" in text
    assert str(whole.parent) not in text
    assert not (whole / "checkpoint-2" / "README.md").exists()
    assert not (whole / "checkpoint-2" / "tokenizer.json").exists()


def test_a_resumed_run_equals_an_uninterrupted_one(setting, whole, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    for name in (
        "adapter_model.safetensors",
        "geoclick.json",
        "metrics.json",
        "checkpoint-4/trainer_state.json",
    ):
        (output / name).unlink()
    config = (output / "config.yaml").read_text().replace(str(whole), str(output))
    (output / "config.yaml").write_text(config)
    assert checkpoints.last_complete(output).name == "checkpoint-2"
    assert sft.main([*setting, "--output", str(output), "--resume"]) == 0
    assert same_weights(whole, output)
    assert losses(whole) == losses(output)


def test_resume_without_a_checkpoint_starts_and_with_other_options_refuses(setting, whole, tmp_path, capsys):
    assert checkpoints.last_complete(tmp_path) is None
    assert sft.main([*setting, "--output", str(whole), "--resume", "--lora-r", "8"]) == 2
    assert "was started with lora_r 4, not 8" in capsys.readouterr().err


def test_a_folder_with_a_run_is_not_overwritten(setting, whole, capsys):
    before = (whole / "adapter_model.safetensors").read_bytes()
    assert sft.main([*setting, "--output", str(whole)]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert (whole / "adapter_model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        (["--vlm", "/nowhere"], 1, "does not exist"),
        (["--clicks", "/nowhere"], 1, "holds no click store"),
        (["--lorar", "8"], 2, "did you mean 'lora_r'"),
        (["--optim", "none"], 2, "optim"),
        (["--vision-lr", "1e-5"], 2, "name it in --tune"),
    ],
)
def test_bad_input_is_one_sentence(setting, tmp_path, capsys, flags, code, expected):
    assert sft.main([*setting, "--output", str(tmp_path / "run"), *flags]) == code
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [pytest.param("0", marks=pytest.mark.slow), "1"])
def test_an_image_that_breaks_during_the_run_is_one_sentence_and_the_last_checkpoint_is_complete(
    setting, tmp_path, capfd, workers
):
    clicks, root = tiny.click_store(tmp_path, rows=16)
    image = root / "train" / "images" / "0006.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    output = tmp_path / "run"
    words = [*setting, "--output", str(output)]
    words[words.index("--clicks") + 1], words[words.index("--root") + 1] = str(clicks), str(root)
    words += ["--feature-memory-gb", "0", "--per_device_train_batch_size", "2", "--save_steps", "1"]
    words += ["--save_total_limit", "99", "--dataloader_num_workers", workers]
    words += ["--train_sampling_strategy", "sequential"]
    assert sft.main(words) == 1
    error = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    assert error == [
        f"error: {image} cannot be read as an image (image file is truncated); replace or remove the file."
    ]
    last = checkpoints.last_complete(output)
    assert last is not None
    image.write_bytes(whole)
    assert sft.main([*words, "--resume"]) == 0
    assert json.loads((output / "metrics.json").read_text())["steps"] == 8


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(setting, tmp_path):
    """Through accelerate's cpu2 file: the same global batch, answers of different lengths on the two ranks."""
    common = [*setting, "--lora-dropout", "0", "--save_strategy", "no"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert sft.main([*common, "--output", str(one), "--per_device_train_batch_size", "4"]) == 0
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        "accelerate_configs/cpu2.yaml",
    ]
    script = ["-m", "geoclick.train.sft", *common, "--output", str(two), "--per_device_train_batch_size", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((two / "metrics.json").read_text())["processes"] == 2
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (one, two))
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("batches", [["--per_device_train_batch_size", "4"], ["--packing-tokens", "600"]])
def test_a_compiled_run_of_the_embedded_model_has_the_losses_of_an_eager_one(batches, tmp_path):
    clicks, root = tiny.click_store(tmp_path, rows=16, side=256)
    common = ["--clicks", str(clicks), "--root", str(root), "--use_cpu", "true", "--max_steps", "2", *batches]
    common += ["--optim", "adamw_torch_fused", "--logging_steps", "1", "--save_strategy", "no"]
    eager, compiled = tmp_path / "eager", tmp_path / "compiled"
    assert sft.main([*common, "--output", str(eager)]) == 0
    assert sft.main([*common, "--output", str(compiled), "--torch_compile", "true"]) == 0
    assert losses(compiled) == pytest.approx(losses(eager), abs=1e-4)


def test_a_store_that_contradicts_itself_is_refused_before_the_model_is_loaded(setting, tmp_path, capsys):
    clicks, root = tiny.click_store(tmp_path, rows=8)
    found = [dataclasses.replace(row, query="the barn") for row in store.read(clicks)]
    found[1] = dataclasses.replace(found[1], mask=masks.encode_rle(np.ones((64, 64), bool)))
    store.write_shard(clicks, 0, 1, found)
    flags = [
        "--vlm",
        "no/model",
        "--clicks",
        str(clicks),
        "--root",
        str(root),
        "--output",
        str(tmp_path / "run"),
    ]
    assert sft.main(flags) == 1
    assert "--allow-contradictions" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()


TOKEN = "hf_abcdefghijklmnopqrst"


def test_a_token_is_refused_and_if_given_in_python_reaches_the_trainer_and_no_file(
    setting, tmp_path, capsys, monkeypatch
):
    given = []
    make = sft.make_trainer
    monkeypatch.setattr(sft, "make_trainer", lambda *words: given.append(words[2].hub_token) or make(*words))
    output = tmp_path / "run"
    flags = [*setting, "--max_steps", "2", "--output", str(output)]
    assert sft.main([*flags, "--hub_token", TOKEN]) == 2
    assert not output.exists()
    options, trl_options = parse(flags)
    sft.run(options, trl_options | {"hub_token": TOKEN})
    assert given == [TOKEN]
    assert (output / "checkpoint-2").is_dir()
    for path in filter(os.path.isfile, output.rglob("*")):
        assert b"abcdefghijkl" not in path.read_bytes(), path
    assert TOKEN not in "".join(capsys.readouterr())


def test_a_run_that_diverges_stops_and_names_the_last_good_checkpoint(setting, tmp_path, capsys, monkeypatch):
    # No option makes so small a model diverge within its range.
    monkeypatch.setitem(ranges.RANGES, "learning_rate", ranges.Range(0, 1e39))
    for module in (ranges, option_values):
        monkeypatch.setattr(module, "LARGEST_NUMBER", 1e39)
    output = tmp_path / "run"
    flags = [*setting, "--optim", "sgd", "--learning_rate", "1e38", "--max_grad_norm", "1e9"]
    flags += ["--lr_scheduler_type", "constant_with_warmup", "--warmup_steps", "2", "--save_steps", "1"]
    assert sft.main([*flags, "--output", str(output)]) == 1
    error = capsys.readouterr().err
    assert "not finite at step" in error
    assert not (output / "adapter_model.safetensors").exists()
    for checkpoint in output.glob("checkpoint-*/adapter_model.safetensors"):
        assert all(weight.isfinite().all() for weight in load_file(checkpoint).values())
    last = checkpoints.last_complete(output)
    assert last is not None
    assert f"the last good checkpoint is {last};" in error
