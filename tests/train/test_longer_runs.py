"""A finished run goes on for more epochs or steps in the same folder."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import get_scheduler

from geoclick.train import sft
from geoclick.vlms import adapter
from tests import tiny

RATE = 0.01


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("longer")
    base = tiny.qwen3_vl_folder(folder / "vlm")
    clicks, root = tiny.click_store(folder, rows=8)
    flags = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--use_cpu", "true"]
    flags += ["--learning_rate", RATE, "--logging_steps", 1, "--save_total_limit", 9, "--warmup_steps", 0]
    return list(map(str, flags))


@pytest.fixture(scope="module")
def two_steps(setting, tmp_path_factory):
    """A finished run of two steps."""
    output = tmp_path_factory.mktemp("two") / "run"
    assert sft.main([*setting, "--max_steps", "2", "--output", str(output)]) == 0
    return output


def curve(folder, key):
    return [entry[key] for entry in json.loads((folder / "metrics.json").read_text())["loss"]]


def test_more_epochs_follow_the_schedule_of_their_number(setting, tmp_path, capsys):
    output, whole = tmp_path / "run", tmp_path / "whole"
    assert sft.main([*setting, "--num_train_epochs", "1", "--output", str(output)]) == 0
    capsys.readouterr()
    assert sft.main([*setting, "--num_train_epochs", "3", "--output", str(output), "--resume"]) == 0
    printed = capsys.readouterr().out
    assert "takes 6 steps instead of 2" in printed
    assert "schedule cosine of 6 steps and goes on with 0.0075 after step 2" in printed
    schedule = get_scheduler("cosine", torch.optim.SGD([torch.zeros(1)], lr=RATE), 0, 6)
    expected = [schedule.lr_lambdas[0](step) * RATE for step in range(6)]
    assert curve(output, "learning_rate")[2:] == pytest.approx(expected[2:])
    record = adapter.read_record(output)
    assert [(one["steps"], one["extended_at"]) for one in record.runs] == [(6, [2])]
    assert record.config["num_train_epochs"] == 3
    assert adapter.read_record(output / "checkpoint-4").runs[0]["extended_at"] == [2]
    assert sft.main([*setting, "--num_train_epochs", "3", "--output", str(whole)]) == 0
    # The rows of a step are those of an uninterrupted run: only the learning rate of the first steps differs.
    assert curve(output, "loss")[0] == curve(whole, "loss")[0]
    assert curve(output, "learning_rate")[2:] == curve(whole, "learning_rate")[2:]


def test_a_constant_rate_gives_the_run_that_was_longer_from_the_start(setting, tmp_path):
    flags = [*setting, "--lr_scheduler_type", "constant", "--save_strategy", "steps", "--save_steps", "2"]
    output, whole = tmp_path / "run", tmp_path / "whole"
    assert sft.main([*flags, "--max_steps", "2", "--output", str(output)]) == 0
    assert sft.main([*flags, "--max_steps", "5", "--output", str(output), "--resume"]) == 0
    assert sft.main([*flags, "--max_steps", "5", "--output", str(whole)]) == 0
    assert curve(output, "loss") == curve(whole, "loss")
    one, two = (load_file(folder / adapter.WEIGHTS) for folder in (output, whole))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--max_steps", "1"],
            "was started with max_steps 2, not 1; resume with 2 or, to train longer, with more",
        ),
        ([], "was started with max_steps, which decides its length"),
    ],
)
def test_fewer_steps_and_another_kind_of_length_are_refused(words, expected, setting, two_steps, capsys):
    assert sft.main([*setting, *words, "--output", str(two_steps), "--resume"]) == 2
    assert expected in capsys.readouterr().err
