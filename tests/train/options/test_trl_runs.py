"""Options of TRL in complete runs of `geoclick train sft`."""

import json

import pytest
from transformers.training_args import OptimizerNames

from geoclick.errors import GeoClickError, UsageError
from geoclick.train import sft
from geoclick.train.loop.monitor import Monitor
from geoclick.train.options import sft as options
from geoclick.train.options.trl_arguments import trl_arguments
from tests import tiny


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """The flags of every run: a tiny VLM and 8 rows."""
    folder = tmp_path_factory.mktemp("runs")
    base = tiny.qwen3_vl_folder(folder / "vlm")
    clicks, root = tiny.click_store(folder, rows=8)
    words = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--use_cpu", "true"]
    words += ["--max_steps", 3, "--logging_steps", 1, "--learning_rate", 0.01]
    return list(map(str, words))


def run(flags, output, *words):
    assert sft.main([*flags, *words, "--output", str(output)]) == 0
    return json.loads((output / "metrics.json").read_text())


EVALUATED = ["--evaluate-every", "1", "--evaluate-samples", "2"]


def test_a_run_is_evaluated_at_its_start_and_saved_when_it_is_best(flags, tmp_path, monkeypatch, capsys):
    scores = iter([0.5, 0.3, 0.8, 0.7])
    batches = []

    def evaluate(self, model, rank, processes):
        batches.append(self.batch_size)
        return []

    monkeypatch.setattr(Monitor, "evaluate", evaluate)
    monkeypatch.setattr("geoclick.train.loop.monitor.score", lambda records: {"eval_miou": next(scores)})
    monkeypatch.setattr("geoclick.train.loop.monitor.panel", lambda samples, records: tiny_picture())
    words = ["--eval_on_start", "true", "--save_strategy", "best", "--per_device_eval_batch_size", "3"]
    metrics = run(flags, tmp_path / "run", *EVALUATED, *words, "--hub_model_id", "me/clicks")
    assert [entry["step"] for entry in metrics["evaluations"]] == [0, 1, 2, 3]
    saved = sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*"))
    assert saved == ["checkpoint-1", "checkpoint-2"]
    assert batches == [3] * 4
    assert capsys.readouterr().out.rstrip().endswith("--push me/clicks")


def tiny_picture():
    import numpy as np

    return np.zeros((4, 4, 3), dtype=np.uint8)


def test_rows_are_grouped_by_length(flags, tmp_path):
    words = ["--train_sampling_strategy", "group_by_length", "--save_strategy", "no"]
    one = run(flags, tmp_path / "one", *words, "--per_device_train_batch_size", "4")
    two = run(
        flags,
        tmp_path / "two",
        *words,
        *("--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2"),
    )
    losses = [[entry["loss"] for entry in metrics["loss"]] for metrics in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("name", [one.value for one in OptimizerNames])
def test_an_optimizer_works_or_is_refused_before_the_model_is_loaded(name, tmp_path):
    words = ["--clicks", "c", "--root", "r", "--output", str(tmp_path), "--optim", name, "--use_cpu", "true"]
    try:
        _, given = options.parse(words)
        arguments = trl_arguments("SFTConfig", given, output_dir=str(tmp_path))
    except (UsageError, GeoClickError):
        return
    assert arguments.optim == name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optim_args": "foo=1"}, "optim_args has no effect with optim adamw_torch_fused"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "min_lr"),
        ({"lr_scheduler_kwargs": {"foo": 1}}, "foo"),
        ({"fp16": True}, "fp16 needs a GPU"),
        ({"activation_offloading": True}, "activation_offloading needs a GPU"),
        ({"use_liger_kernel": True}, "use_liger_kernel needs a GPU"),
        ({"liger_kernel_config": {"fused_linear_cross_entropy": True}}, "the loss is GeoClick's; remove it"),
        ({"activation_checkpointing_kwargs": {"selective": True}}, "selective is not supported"),
        ({"adam_beta1": 2.0}, "beta"),
    ],
)
def test_wrong_options_are_one_sentence_before_the_model_is_loaded(given, message, tmp_path):
    with pytest.raises(GeoClickError, match=message):
        trl_arguments("SFTConfig", {"use_cpu": True} | given, output_dir=str(tmp_path))


def test_a_launchers_precision_does_not_win_over_an_option(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    given = {"use_cpu": True, "bf16": False}
    assert trl_arguments("SFTConfig", given, output_dir=str(tmp_path)).mixed_precision == "no"
    assert trl_arguments("SFTConfig", {"use_cpu": True}, output_dir=str(tmp_path)).mixed_precision == "bf16"
