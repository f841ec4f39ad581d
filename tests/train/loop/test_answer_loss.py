"""The loss is the mean over tokens or over samples, however samples are packed, padded, accumulated or distributed."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from geoclick import vlms
from geoclick.train import sft
from geoclick.train.data import rows
from geoclick.train.data.collator import ClickCollator
from tests import tiny

ROWS = 16
WAYS = {
    "padded": ["--per_device_train_batch_size", "16"],
    "accumulated": ["--per_device_train_batch_size", "5", "--gradient_accumulation_steps", "4"],
    "packed": ["--packing-tokens", "300", "--gradient_accumulation_steps", "8"],
}
"""Ways of one step over all rows."""
CASES = {
    "tokens": ["--loss-average", "tokens"],
    "samples": ["--loss-average", "samples"],
    "smoothed": ["--loss-average", "tokens", "--label_smoothing_factor", "0.25"],
    "smoothed samples": ["--loss-average", "samples", "--label_smoothing_factor", "0.25"],
    "tokens by task": ["--loss-average", "tokens", "--task-weights", "none=0.2", "one=0.3"],
    "smoothed samples by task": [
        *(
            "--loss-average",
            "samples",
            "--label_smoothing_factor",
            "0.25",
            "--task-weights",
            "none=0.2",
            "one=0.3",
        )
    ],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A tiny VLM, a click store of rows with answers of unequal lengths, and its root."""
    folder = tmp_path_factory.mktemp("loss")
    return tiny.qwen3_vl_folder(folder / "vlm"), *tiny.click_store(folder, rows=ROWS)


@pytest.fixture(scope="module")
def flags(data):
    """The flags of every run: one step of plain gradient descent."""
    base, clicks, root = data
    words = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--max_steps", 1]
    words += ["--optim", "sgd", "--learning_rate", 1, "--warmup_steps", 0, "--max_grad_norm", 0]
    words += ["--use_cpu", "true", "--logging_steps", 1, "--save_strategy", "no", "--feature-memory-gb", 0]
    return [str(word) for word in words]


def outcome(output):
    """The loss of the step, and the trained weights."""
    metrics = json.loads((output / "metrics.json").read_text())
    return metrics["loss"][0]["loss"], load_file(output / "adapter_model.safetensors")


def check_equal(one, two):
    assert two[0] == pytest.approx(one[0], rel=1e-4)
    for name, weight in one[1].items():
        torch.testing.assert_close(two[1][name], weight, rtol=1e-4, atol=1e-6)


def expected_loss(data, case):
    """The loss of the untrained model, from the logits of each row on its own."""
    base, clicks, root = data
    vlm = vlms.load(str(base), device="cpu")
    dataset, _ = rows.build(clicks, root, vlm, answer_format="compact", max_clicks=6, min_iou=0.0)
    smoothing = 0.25 if "smoothed" in case else 0.0
    losses = []
    for row in dataset:
        batch = ClickCollator(vlm.processor)([row])
        labels = batch.pop("labels")[0, 1:]
        with torch.no_grad():
            logits = vlm.model(**batch).logits[0, :-1]
        losses.append(
            cross_entropy(
                logits[labels != -100], labels[labels != -100], reduction="none", label_smoothing=smoothing
            )
        )
    assert len({len(one) for one in losses}) > 2
    by_task = {"none": 0.2, "one": 0.3} if "by task" in case else {"none": 1, "one": 1}
    weights = torch.tensor([by_task[row["kind"]] for row in dataset])
    assert len({row["kind"] for row in dataset}) == 2
    means = torch.stack([one.mean() for one in losses])
    lengths = torch.tensor([1.0 if "samples" in case else len(one) for one in losses])
    return ((means * lengths * weights).sum() / (lengths * weights).sum()).item()


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def padded(case, flags, tmp_path_factory):
    """One batch of all rows."""
    output = tmp_path_factory.mktemp("padded") / "run"
    assert sft.main([*flags, *CASES[case], *WAYS["padded"], "--output", str(output)]) == 0
    return outcome(output)


def test_the_loss_is_the_mean_that_was_asked_for(case, data, padded):
    assert padded[0] == pytest.approx(expected_loss(data, case), rel=1e-4)


@pytest.mark.parametrize("way", ["accumulated", "packed"])
def test_the_loss_and_step_do_not_depend_on_the_batches(way, case, flags, padded, tmp_path):
    assert sft.main([*flags, *CASES[case], *WAYS[way], "--output", str(tmp_path / "run")]) == 0
    check_equal(padded, outcome(tmp_path / "run"))


def test_the_averages_differ(flags, tmp_path):
    losses = set()
    for average in ("tokens", "samples"):
        output = tmp_path / average
        assert sft.main([*flags, "--loss-average", average, *WAYS["padded"], "--output", str(output)]) == 0
        losses.add(round(outcome(output)[0], 4))
    assert len(losses) == 2


@pytest.mark.slow
def test_two_processes_have_the_loss_and_step_of_one(case, flags, padded, tmp_path):
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    launch += ["--config_file", "accelerate_configs/cpu2.yaml", "--main_process_port", "0"]
    words = [*launch, "-m", "geoclick.train.sft", *flags, *CASES[case], "--output", str(tmp_path / "run")]
    words += ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    check_equal(padded, outcome(tmp_path / "run"))
