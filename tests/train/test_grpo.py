import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from geoclick import vlms
from geoclick.train import card, grpo
from geoclick.train.data import image_hashes
from geoclick.train.options.grpo import DEFAULTS, parse
from geoclick.train.reinforcement import rewards
from geoclick.train.reinforcement.rewards import ScoredCompletion
from geoclick.vlms import families, loading
from geoclick.vlms.generation.answers import generate
from tests import tiny
from tests.train import grpo_runs
from tests.train.adapters import random_adapter, with_record
from tests.train.grpo_runs import weights


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """The flags of every run: the embedded VLM, which can point, with an adapter that hardly changes it."""
    return grpo_runs.setting(tmp_path_factory.mktemp("grpo"))


@pytest.fixture(scope="module")
def whole(setting, tmp_path_factory):
    """A run of four steps that was not interrupted."""
    output = tmp_path_factory.mktemp("whole") / "run"
    assert grpo.main([*setting, "--output", str(output)]) == 0
    return output


def curve(output):
    return json.loads((output / "metrics.json").read_text())["reward"]


def test_a_run_changes_the_adapter_and_writes_one_that_loads_with_its_provenance(setting, whole):
    start, end = weights(Path(setting[1])), weights(whole)
    assert start.keys() == end.keys()
    moved = [key for key in start if not torch.equal(start[key], end[key])]
    assert len(moved) == len(start)
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["steps"] == 4
    assert metrics["rows"] == 6
    assert metrics["completions_per_second"] * metrics["seconds"] == pytest.approx(16, rel=0.02)
    assert metrics["trainable_parameters"]["language_model"] == sum(value.numel() for value in start.values())
    assert metrics["trainable_parameters"]["vision"] == 0
    for step in metrics["reward"]:
        # A group is of one sample, which has a target or has none.
        parts = [step["iou"], step["economy"], step["no_target"]]
        assert [part is None for part in parts] in ([False, False, True], [True, True, False])
        given = zip((1.0, 0.02, 1.0, 0.1), (*parts, step["format"]), strict=True)
        assert step["reward"] == pytest.approx(sum(weight * (part or 0) for weight, part in given), abs=1e-5)
    for folder in (whole, whole / "checkpoint-2"):
        record = vlms.load("embedded", adapter=folder).record
        assert (record.answer_format, record.config["num_generations"]) == ("json", 4)
        assert record.config["start"]["clicks"] == "/somewhere/clicks"
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == str(loading.EMBEDDED)
    assert not list(whole.rglob("*.bin"))


def test_the_card_has_the_options_of_both_runs(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    assert card.main([str(tmp_path / "run")]) == 0
    text = (tmp_path / "run" / "README.md").read_text()
    assert "| iou\\_weight | 1.0 |" in text
    assert "at most 6 clicks" in text
    assert "starts from a supervised run with these options:" in text
    assert "options:\n\n|  |  |\n| --- | --- |\n| lora\\_r | 4 |\n| max\\_clicks | 6 |" in text
    assert str(whole.parent) not in text


def test_a_resumed_run_equals_an_uninterrupted_one(setting, whole, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    shutil.rmtree(output / "checkpoint-4")
    for name in ("adapter_model.safetensors", "geoclick.json", "metrics.json"):
        (output / name).unlink()
    config = (output / "config.yaml").read_text().replace(str(whole), str(output))
    (output / "config.yaml").write_text(config)
    assert grpo.main([*setting, "--output", str(output), "--resume"]) == 0
    one, two = weights(whole), weights(output)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert curve(whole) == curve(output)


def test_the_reference_is_the_adapter_that_it_starts_from(setting, tmp_path):
    """No weight has changed in the first step: the KL is zero for each row, with samples of several images."""
    output = tmp_path / "run"
    flags = ["--beta", "0.1", "--per_device_train_batch_size", "16", "--max_steps", "3"]
    assert grpo.main([*setting, "--output", str(output), *flags]) == 0
    kl = [step["kl"] for step in curve(output)]
    assert kl[0] == pytest.approx(0, abs=1e-6)
    assert kl[-1] > 1e-6
    assert weights(output).keys() == weights(Path(setting[1])).keys()
    assert not (output / "ref").exists()
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["trainable_parameters"]["language_model"] == sum(
        v.numel() for v in weights(output).values()
    )


def test_what_is_rewarded_is_what_inference_writes(setting, tmp_path, monkeypatch):
    """With greedy decoding, the first completions are the answers of predict and evaluate."""
    file, seen = tmp_path / "run.yaml", []
    file.write_text("generation_kwargs: {do_sample: false}\n")
    score_completions = rewards.score_completions

    def recorded(vlm, segmenter, embeddings, samples, texts, **options):
        seen.append((samples, texts))
        return score_completions(vlm, segmenter, embeddings, samples, texts, **options)

    monkeypatch.setattr(rewards, "score_completions", recorded)
    flags = ["--per_device_train_batch_size", "16", "--max_steps", "1", "--save_strategy", "no"]
    flags += ["--num_generations", "4", "--output", str(tmp_path / "run"), "--config", str(file)]
    assert grpo.main([*setting, *flags]) == 0
    [(samples, texts)] = seen
    assert len({sample.image for sample in samples}) > 1
    vlm = vlms.load("embedded", adapter=setting[1], device="cpu")
    images, queries = [s.read_image() for s in samples], [s.query for s in samples]
    answers = generate(vlm, images, queries, answer_format="json", max_new_tokens=40)
    assert [text.strip() for text in texts] == [answer.text for answer in answers]


@pytest.mark.slow
def test_features_in_memory_change_nothing(setting, whole, tmp_path):
    output = tmp_path / "run"
    memory = ["--feature-memory-gb", "0", "--embedding-memory-gb", "0", "--save_strategy", "no"]
    assert grpo.main([*setting, "--output", str(output), *memory, "--max_steps", "2"]) == 0
    assert json.loads((output / "metrics.json").read_text())["vision_features_bytes"] == 0
    for one, other in zip(curve(whole), curve(output), strict=False):
        assert one["reward"] == pytest.approx(other["reward"], abs=1e-3)


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        (["--adapter", "/nowhere"], 1, "does not exist"),
        (["--root", "/nowhere"], 2, "is not a folder"),
        (["--split", "val"], 2, "samples.jsonl"),
        (["--segmenter", "sam_vit_b"], 2, "--segmenter-checkpoint"),
        (["--iou-wait", "1"], 2, "did you mean 'iou_weight'"),
        (["--iou-weight", "-1"], 2, "must be 0 or more"),
        (
            [f"--{name}-weight=0" for name in ("iou", "format", "economy", "no-target")],
            2,
            "All weights of the reward are 0",
        ),
        (["--reward_weights", "1"], 2, "use iou_weight"),
        (["--num_generations", "3"], 1, "must be divisible"),
        (["--per_device_train_batch_size", "40"], 1, "fewer than the 10"),
        (["--num_iterations", "2", "--save_steps", "3"], 2, "a multiple of 2"),
    ],
)
def test_bad_input_is_one_sentence(setting, tmp_path, capsys, flags, code, expected):
    assert grpo.main([*setting, "--output", str(tmp_path / "run"), *flags]) == code
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_recorded_base_of_an_adapter_cannot_add_an_error(setting, tmp_path, capsys):
    adapter = tmp_path / "adapter"
    shutil.copytree(setting[1], adapter)
    base = "no/model\nerror: All is lost; send the folder to somebody."
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base}))
    with_record(adapter, base=str(tmp_path / base))
    assert grpo.main([*setting, "--adapter", str(adapter), "--output", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "no/model error: All is lost" in error


def test_resuming_with_other_options_and_a_folder_with_a_run_are_refused(setting, whole, capsys):
    assert grpo.main([*setting, "--output", str(whole)]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert grpo.main([*setting, "--output", str(whole), "--resume", "--iou-weight", "2"]) == 2
    assert "was started with iou_weight 1.0, not 2.0" in capsys.readouterr().err


def test_resuming_with_a_changed_image_is_refused(setting, whole, tmp_path, capsys):
    place = setting.index("--root") + 1
    root, output = tmp_path / "scenes", tmp_path / "run"
    shutil.copytree(setting[place], root)
    shutil.copytree(whole, output)
    for name in ("config.yaml", image_hashes.NAME):
        content = (output / name).read_text().replace(str(whole), str(output))
        (output / name).write_text(content.replace(setting[place], str(root)))
    image = next((root / "train/images").iterdir())
    image.write_bytes(image.read_bytes() + b"\0")
    words = [*setting[:place], str(root), *setting[place + 1 :]]
    assert grpo.main([*words, "--output", str(output), "--resume"]) == 2
    assert capsys.readouterr().err == (
        f"error: {image} has changed since the run in {output} was started; restore it, or give another --output.\n"
    )


@pytest.mark.parametrize(
    ("family", "towers"),
    [
        pytest.param("qwen2_5_vl", ["language_model", "projector"], marks=pytest.mark.slow),
        pytest.param("qwen2_vl", ["projector"], marks=pytest.mark.slow),
        ("qwen3_vl", ["language_model", "projector", "vision"]),
    ],
)
def test_the_towers_of_the_adapter_are_trained(setting, tmp_path, monkeypatch, family, towers):
    """Each LoRA weight has a gradient, and the adapter keeps its towers."""
    targets = families.FAMILIES[family].lora_targets(towers)
    base = tiny.FOLDERS[family](tmp_path / "vlm")
    adapter = random_adapter(tmp_path / "adapter", base, target_modules=targets)
    with_record(adapter, targets=targets)

    def scored(vlm, segmenter, embeddings, samples, texts, **options):
        return [ScoredCompletion("ok", 1, True, len(set(text)) % 7 / 7) for text in texts]

    monkeypatch.setattr(rewards, "score_completions", scored)
    flags = [*setting, "--adapter", str(adapter), "--max_steps", "1", "--warmup_steps", "0"]
    flags += ["--optim", "sgd", "--learning_rate", "1", "--max_grad_norm", "0", "--save_strategy", "no"]
    assert grpo.main([*flags, "--output", str(tmp_path / "run"), "--max_completion_length", "12"]) == 0
    start, end = weights(adapter), weights(tmp_path / "run")
    assert start.keys() == end.keys()
    assert {families.tower_of(name) for name in end} == set(towers)
    assert [name for name in start if torch.equal(start[name], end[name])] == []
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {tower for tower, count in metrics["trainable_parameters"].items() if count} == set(towers)
    assert vlms.load(str(base), adapter=tmp_path / "run").record.targets == targets


@pytest.mark.parametrize("recipe", ["embedded", "qwen3_vl_2b"])
def test_recipes_parse(recipe):
    required = ["--adapter", "a", "--root", "r", "--output", "o"]
    options, settings = parse(["--config", f"configs/grpo/{recipe}.yaml", *required])
    assert options.split == "train"
    assert settings["num_generations"] == 8
    assert settings["per_device_train_batch_size"] % settings["num_generations"] == 0


def test_options_of_the_dataset_may_be_lists_in_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("adapter: a\nroot: r\noutput: o\nbands: []\nstretch: [1, 99]\nlearning_rate: 1e-4\n")
    options, settings = parse(["--config", str(file), "--split", "val"])
    assert (options.bands, options.stretch, options.split) == ((), (1.0, 99.0), "val")
    assert settings == DEFAULTS | {"learning_rate": 1e-4}


@pytest.mark.slow
def test_two_processes_share_a_group(setting, tmp_path):
    """Each rank has two completions of each group, so that the advantages need both."""
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    launch += ["--config_file", "accelerate_configs/cpu2.yaml", "-m", "geoclick.train.grpo", *setting]
    launch += ["--output", str(tmp_path / "two"), "--per_device_train_batch_size", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["processes"] == 2
    assert metrics["completions_per_second"] * metrics["seconds"] == pytest.approx(16, rel=0.02)
    assert any(step["reward_std"] > 0 for step in metrics["reward"])
    assert vlms.load("embedded", adapter=tmp_path / "two").record.answer_format == "json"
    start, end = weights(Path(setting[1])), weights(tmp_path / "two")
    assert any(not torch.equal(start[key], end[key]) for key in start)
