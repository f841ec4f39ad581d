"""Runs that start from other runs: new towers, complete towers, longer training, and GRPO between supervised runs."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from geoclick import files, store, vlms
from geoclick.errors import GeoClickError
from geoclick.train import card, grpo, sft
from geoclick.train.reinforcement import rewards
from geoclick.train.reinforcement.rewards import ScoredCompletion
from geoclick.vlms import adapter
from geoclick.vlms.families import tower_of
from tests import tiny
from tests.train.adapters import with_record
from tests.train.samples import listed


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """The flags of every run without the base: 8 rows, two steps of an epoch."""
    folder = tmp_path_factory.mktemp("stages")
    clicks, root = tiny.click_store(folder, rows=8)
    flags = ["--clicks", clicks, "--root", root, "--learning_rate", 0.01, "--logging_steps", 1]
    flags += ["--use_cpu", "true", "--num_train_epochs", 1, "--save_total_limit", 5]
    return [str(flag) for flag in flags]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(tiny.qwen3_vl_folder(tmp_path_factory.mktemp("base") / "vlm"))


@pytest.fixture(scope="module")
def first(setting, base, tmp_path_factory):
    """A finished run on the language model."""
    output = tmp_path_factory.mktemp("first") / "run"
    flags = ["--vlm", base, "--lora-r", "4", "--lora-alpha", "8", "--answer-format", "json"]
    assert sft.main([*setting, *flags, "--output", str(output)]) == 0
    return output


def weights(folder):
    return load_file(folder / adapter.WEIGHTS)


def config(folder):
    return json.loads((folder / "adapter_config.json").read_text())


def losses(folder):
    return [entry["loss"] for entry in json.loads((folder / "metrics.json").read_text())["loss"]]


def run(setting, output, *words):
    assert sft.main([*setting, *words, "--output", str(output)]) == 0
    return adapter.read_record(output)


def test_a_stage_goes_on_where_the_adapter_ended(setting, first, base, tmp_path):
    output = tmp_path / "second"
    record = run(setting, output, "--adapter", str(first), "--seed", "3")
    assert (record.base, record.answer_format, record.towers) == (base, "json", ["language_model"])
    assert (config(output)["r"], config(output)["lora_alpha"]) == (4, 8)
    start, end = weights(first), weights(output)
    assert start.keys() == end.keys()
    # A run of two steps at 0.01 moves a weight by 0.02 at most, new random weights are farther away.
    assert all(torch.allclose(start[name], end[name], atol=0.021) for name in start)
    assert all(not torch.equal(start[name], end[name]) for name in start)
    kinds = [(one["kind"], one["steps"], one["start_sha256"]) for one in record.runs]
    assert kinds == [("sft", 2, ""), ("sft", 2, files.sha256(first / adapter.WEIGHTS))]
    assert all(one["data_sha256"] for one in record.runs)
    assert adapter.read_record(first).runs == record.runs[:1]
    assert vlms.load(base, adapter=output).record == record
    assert card.main([str(output)]) == 0
    text = (output / "README.md").read_text()
    assert "| 2 | supervised | 2 |" in text
    assert "starts from a supervised run" in text


def test_masks_shown_in_any_stage_are_recorded(setting, first, tmp_path):
    clicks, root = tiny.click_store(tmp_path, rows=4)
    shown = [replace(row, shown=row.mask, given=min(len(row.clicks), 1)) for row in store.read(clicks)]
    store.write_shard(clicks, 0, 1, shown)
    masks = ["--clicks", str(clicks), "--root", str(root)]
    assert adapter.read_record(first).shown_masks is False
    second = run(setting, tmp_path / "second", "--adapter", str(first), *masks)
    third = run(setting, tmp_path / "third", "--adapter", str(tmp_path / "second"))
    assert (second.shown_masks, third.shown_masks) == (True, True)


def test_a_resumed_stage_equals_an_uninterrupted_one(setting, first, tmp_path):
    flags = ["--adapter", str(first), "--save_strategy", "steps", "--save_steps", "1", "--tune", "projector"]
    one, two = tmp_path / "one", tmp_path / "two"
    run(setting, one, *flags)
    shutil.copytree(one, two)
    shutil.rmtree(two / "checkpoint-2")
    (two / adapter.WEIGHTS).unlink()
    (two / "config.yaml").write_text((two / "config.yaml").read_text().replace(str(one), str(two)))
    run(setting, two, *flags, "--resume")
    assert all(torch.equal(weights(one)[name], weights(two)[name]) for name in weights(one))
    with pytest.raises(AssertionError):
        run(setting, two, *flags, "--resume", "--lora-dropout", "0.5")


def test_a_new_tower_is_added_and_one_that_is_not_named_stays_as_it_is(setting, first, base, tmp_path):
    output = tmp_path / "second"
    words = ["--adapter", str(first), "--tune", "projector", "--lora-r", "2", "--projector-lr", "0.005"]
    record = run(setting, output, *words)
    assert record.towers == ["language_model", "projector"]
    start, end = weights(first), weights(output)
    assert all(torch.equal(start[name], end[name]) for name in start)
    new = {name: value for name, value in end.items() if name not in start}
    assert {tower_of(name) for name in new} == {"projector"}
    assert {min(value.shape) for value in new.values()} == {2}
    assert all(value.any() for value in new.values())
    metrics = json.loads((output / "metrics.json").read_text())["trainable_parameters"]
    assert metrics["language_model"] == 0
    assert metrics["projector"] == sum(value.numel() for value in new.values())
    assert vlms.load(base, adapter=output).record.towers == record.towers
    third = run(setting, tmp_path / "third", "--adapter", str(output))
    assert all(not torch.equal(end[name], value) for name, value in weights(tmp_path / "third").items())
    assert [one["kind"] for one in third.runs] == ["sft"] * 3


@pytest.mark.parametrize("family", [pytest.param("qwen2_5_vl", marks=pytest.mark.slow), "qwen3_vl"])
def test_a_tower_that_is_trained_completely_is_stored_loaded_and_merged(family, setting, tmp_path):
    base, output = tiny.FOLDERS[family](tmp_path / "vlm"), tmp_path / "run"
    words = [
        "--vlm",
        str(base),
        "--unfreeze",
        "projector",
        "vision",
        "--modules-to-save",
        "language_model.norm",
    ]
    record = run(setting, output, *words, "--lora-r", "4")
    assert "model.language_model.norm" in record.modules_to_save
    end, model = weights(output), vlms.load(str(base)).model
    changed = {
        name.removeprefix("base_model.model."): value for name, value in end.items() if ".lora_" not in name
    }
    before = dict(model.named_parameters())
    assert {name for name in before if ".visual." in name} | {
        "model.language_model.norm.weight"
    } == changed.keys()
    assert [name for name in changed if torch.equal(before[name], changed[name])] == []
    tuned = vlms.load(str(base), adapter=output).model
    assert torch.equal(
        tuned.get_parameter("base_model.model.model.language_model.norm.modules_to_save.default.weight"),
        changed["model.language_model.norm.weight"],
    )
    merged = dict(tuned.merge_and_unload().named_parameters())
    assert all(torch.equal(merged[name], value) for name, value in changed.items())
    second = run(setting, tmp_path / "second", "--adapter", str(output))
    assert second.modules_to_save == record.modules_to_save
    last = weights(tmp_path / "second")
    assert all(not torch.equal(last[name], value) for name, value in end.items())
    assert all(torch.allclose(last[name], value, atol=0.021) for name, value in end.items())


def test_ranks_by_tower_and_chosen_modules_are_recorded_and_load(setting, base, tmp_path):
    output = tmp_path / "run"
    words = [
        "--vlm",
        base,
        "--tune",
        "language_model",
        "projector",
        "--target-modules",
        "q_proj",
        "v_proj",
        "linear_fc1",
    ]
    words += ["--lora-r", "4", "--rank-pattern", "projector=2", "--alpha-pattern", "projector=16"]
    record = run(setting, output, *words)
    ranks = {tower: set() for tower in record.towers}
    for name, value in weights(output).items():
        ranks[tower_of(name)].add(min(value.shape))
        assert any(f".{module}." in name for module in ("q_proj", "v_proj", "linear_fc1"))
    assert ranks == {"language_model": {4}, "projector": {2}}
    model = vlms.load(base, adapter=output).model
    scales = {
        tower_of(f"{name}.weight"): module.scaling["default"]
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }
    assert scales == {"language_model": 16.0, "projector": 8.0}
    assert card.main([str(output)]) == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"towers": ["language_model", "vision"]},
            "LoRA in language_model and vision: the file holds LoRA in language",
        ),
        ({"modules_to_save": ["model.visual.merger"]}, "no weights of model.visual.merger"),
    ],
)
def test_an_adapter_that_does_not_match_its_record_is_refused(
    change, expected, setting, first, base, tmp_path, capsys
):
    folder = shutil.copytree(first, tmp_path / "copy")
    with_record(folder, **change)
    with pytest.raises(GeoClickError, match=expected):
        vlms.load(base, adapter=folder)
    stage = [*setting, "--adapter", str(folder), "--output", str(tmp_path / "run")]
    for main, words in ((card.main, [str(folder)]), (sft.main, stage)):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1


def test_weights_of_a_module_that_is_not_recorded_are_refused(first, base, tmp_path):
    folder = shutil.copytree(first, tmp_path / "copy")
    extra = {"base_model.model.model.visual.merger.norm.weight": torch.zeros(2)}
    save_file(weights(folder) | extra, folder / adapter.WEIGHTS)
    with pytest.raises(GeoClickError, match=r"holds weights of model.visual.merger.norm.weight, too"):
        vlms.load(base, adapter=folder)


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--lora-r", "8"], 2, "lora_r of --adapter cannot be changed"),
        (["--use-dora"], 2, "was trained without use_dora"),
        (["--init-lora-weights", "pissa"], 2, "trained already"),
        (["--unfreeze", "language_model"], 2, "invalid choice"),
        (["--max-pixels", "9999"], 2, "was trained with max_pixels 4096"),
        (["--vision-lr", "1"], 2, "vision is not tuned"),
        (["--tune", "projector", "--rank-pattern", "language_model=2"], 2, "are those of --adapter"),
        (["--modules-to-save", "nothing"], 1, "is no module with weights"),
        (["--modules-to-save", "lm_head"], 1, "answers need no new tokens"),
        (["--tune", "projector", "--target-modules", "q_proj"], 1, "have linear_fc1, linear_fc2"),
        (["--vlm", "embedded"], 1, "not those that it was trained on"),
    ],
)
def test_what_an_adapter_does_not_allow_is_one_sentence(
    words, code, expected, setting, first, tmp_path, capsys
):
    assert sft.main([*setting, "--adapter", str(first), "--output", str(tmp_path / "run"), *words]) == code
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_grpo_and_supervised_runs_follow_one_another(setting, first, base, tmp_path, monkeypatch):
    def scored(vlm, segmenter, embeddings, samples, texts, **options):
        return [ScoredCompletion("ok", 1, True, len(set(text)) % 7 / 7) for text in texts]

    monkeypatch.setattr(rewards, "score_completions", scored)
    stage = tmp_path / "stage"
    run(setting, stage, "--adapter", str(first), "--unfreeze", "projector")
    root = listed(tmp_path / "samples", ["the barn", "the road", "the pond", "the tree"])
    flags = [
        "--adapter",
        stage,
        "--root",
        root,
        "--output",
        tmp_path / "grpo",
        "--use_cpu",
        "true",
        "--max_steps",
        1,
    ]
    flags += ["--num_generations", 4, "--per_device_train_batch_size", 4, "--max_completion_length", 8]
    flags += ["--learning_rate", 0.01, "--warmup_steps", 0, "--beta", 0.1]
    assert grpo.main(list(map(str, flags))) == 0
    before, after = weights(stage), weights(tmp_path / "grpo")
    assert before.keys() == after.keys()
    assert {tower_of(name) for name in after if not torch.equal(before[name], after[name])} == {
        "language_model",
        "projector",
    }
    record = run(setting, tmp_path / "last", "--adapter", str(tmp_path / "grpo"))
    assert [one["kind"] for one in record.runs] == ["sft", "sft", "grpo", "sft"]
    for one, folder in zip(record.runs[1:], (first, stage, tmp_path / "grpo"), strict=True):
        assert one["start_sha256"] == files.sha256(folder / adapter.WEIGHTS)
    assert [one["steps"] for one in record.runs] == [2, 2, 1, 2]
    text = (tmp_path / "last" / "README.md").read_text()
    assert "at most 6 clicks" in text
    assert "starts from a reinforcement run" in text
