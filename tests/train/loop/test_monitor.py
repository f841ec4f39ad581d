import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from geoclick import masks, segmenters, store, vlms
from geoclick.inference.evaluation import scoring
from geoclick.inference.generative.prediction import Prediction
from geoclick.train import sft
from geoclick.train.data import held_out
from geoclick.train.loop import monitor
from tests import tiny


def entry(sample, prediction, status="ok"):
    """The record of an answer."""
    made = Prediction(prediction, (), "said", status)
    return scoring.score_sample(sample, made, "native")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder, root = tiny.click_store(tmp_path_factory.mktemp("store"), rows=6)
    found = held_out.select(store.read(folder), root, 6)
    nothing = masks.encode_rle(np.zeros(found[0].size, bool))
    return [*found[:-1], replace(found[-1], task="no_target", rle=nothing)]


def test_the_figures_are_those_of_the_answers(samples):
    targets = [sample for sample in samples if sample.mask.any()][:4]
    asked = [*targets, samples[-1]]
    blank = np.zeros(asked[0].size, bool)
    left = np.arange(blank.shape[1]) < 20
    given = [targets[0].mask, targets[1].mask & left, blank, targets[3].mask, blank]
    statuses = ["ok", "ok", "unparsable", "ok", "empty"]
    answers = [entry(s, m, status=status) for s, m, status in zip(asked, given, statuses, strict=True)]
    found = monitor.score(answers)
    assert found["eval_miou"] == pytest.approx((1 + 0.5 + 0 + 1 + 1) / 5)
    assert found["eval_parse_rate"] == pytest.approx(4 / 5)
    assert found["eval_no_target_accuracy"] == 1
    assert "eval_no_target_accuracy" not in monitor.score(answers[:4])


def test_the_panel_shows_targets_and_answers(samples):
    right = monitor.panel(samples, [entry(s, s.mask) for s in samples])
    wrong = monitor.panel(samples, [entry(s, np.zeros(s.size, bool)) for s in samples])
    assert right.shape == wrong.shape == (3 * (monitor.CELL + monitor.CAPTION), 4 * monitor.CELL, 3)
    differs = (right != wrong).any(2)
    # The targets' column is the same, the answers' is not.
    assert not differs[monitor.CAPTION : monitor.CELL, : monitor.CELL].any()
    assert differs[monitor.CAPTION : monitor.CELL, monitor.CELL : 2 * monitor.CELL].any()


@pytest.mark.parametrize(
    ("found", "best", "stalls"),
    [
        ([0.1], True, [False, False]),
        ([0.1, 0.2], True, [False, False]),
        ([0.2, 0.2], False, [True, False]),
        ([0.3, 0.2, 0.3], False, [True, True]),
        ([0.3, 0.2, 0.31], True, [False, False]),
    ],
)
def test_best_and_stalled_follow_from_the_log(found, best, stalls):
    history = [{"loss": 1.0}, *({monitor.METRIC: value} for value in found), {"loss": 0.5}]
    assert monitor.is_best(history) == best
    assert [monitor.stalled(history, patience) for patience in (1, 2)] == stalls
    assert not monitor.stalled(history, 0)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """The flags of runs that evaluate every two of six steps."""
    folder = tmp_path_factory.mktemp("monitored")
    base = tiny.qwen3_vl_folder(folder / "vlm")
    clicks, root = tiny.click_store(folder, rows=16)
    flags = ["--vlm", base, "--clicks", clicks, "--root", root, "--lora-r", 4, "--num_train_epochs", 2]
    flags += ["--logging_steps", 1, "--save_strategy", "steps", "--save_steps", 2, "--use_cpu", "true"]
    flags += ["--save_total_limit", 9, "--evaluate-every", 2, "--evaluate-samples", 4]
    return [str(flag) for flag in flags]


@pytest.fixture(scope="module")
def whole(setting, tmp_path_factory):
    output = tmp_path_factory.mktemp("whole") / "run"
    board = output.parent / "board"
    words = ["--output", str(output), "--report_to", "tensorboard"]
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(board)
    with tiny.short_answers():
        assert sft.main([*setting, *words]) == 0
    return output, board


def read(output):
    return json.loads((output / "metrics.json").read_text())


def test_a_run_is_evaluated_on_images_that_it_does_not_train_on(setting, whole):
    output, board = whole
    metrics = read(output)
    assert metrics["rows"] == 12
    assert metrics["rows_left_out"]["held out"] == 4
    assert [entry["step"] for entry in metrics["evaluations"]] == [2, 4, 6]
    for entry in metrics["evaluations"]:
        assert 0 <= entry["eval_miou"] <= 1
        assert Image.open(output / "evaluations" / f"step-{entry['step']:06d}.png").width == 4 * monitor.CELL
    events = EventAccumulator(str(next(board.rglob("events*")).parent)).Reload()
    assert [e.value for e in events.Scalars("eval/miou")] == pytest.approx(
        [entry["eval_miou"] for entry in metrics["evaluations"]]
    )
    assert [e.step for e in events.Images("held_out")] == [2, 4, 6]


def test_evaluations_do_not_change_the_training(setting, whole, tmp_path):
    """The same rows, with the held-out ones removed from the store."""
    clicks = setting[setting.index("--clicks") + 1]
    root = setting[setting.index("--root") + 1]
    out = {sample.image for sample in held_out.select(store.read(clicks), root, 4)}
    kept = [row for row in store.read(clicks) if row.image not in out]
    store.write_shard(tmp_path / "kept", 0, 1, kept)
    store.write_manifest(tmp_path / "kept", {})
    words = [str(tmp_path / "kept") if word == clicks else word for word in setting]
    words += ["--evaluate-every", "0"]
    assert sft.main([*words, "--output", str(tmp_path / "run")]) == 0
    same = [[entry["loss"] for entry in read(folder)["loss"]] for folder in (whole[0], tmp_path / "run")]
    assert same[0] == same[1]


@pytest.mark.usefixtures("short_answers")
def test_the_best_adapter_is_saved_with_the_answers_of_its_evaluation(setting, whole):
    metrics = read(whole[0])
    best = max(metrics["evaluations"], key=lambda entry: entry["eval_miou"])
    saved = load_file(whole[0] / "best" / "adapter_model.safetensors")
    step = load_file(whole[0] / f"checkpoint-{best['step']}" / "adapter_model.safetensors")
    assert all((saved[key] == step[key]).all() for key in step)
    assert not (whole[0] / "best.partial").exists()
    vlm = vlms.load(setting[1], adapter=whole[0] / "best")
    clicks = setting[setting.index("--clicks") + 1]
    chosen = held_out.select(store.read(clicks), setting[setting.index("--root") + 1], 4)
    watch = monitor.Monitor(vlm, segmenters.load(), chosen, "compact", False, every=1, patience=0)
    again = monitor.score(watch.evaluate(vlm.model, 0, 1))
    assert again["eval_miou"] == pytest.approx(best["eval_miou"])


@pytest.mark.usefixtures("short_answers")
def test_a_resumed_run_has_the_evaluations_of_an_uninterrupted_one(setting, whole, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(whole[0], output)
    for name in (
        "adapter_model.safetensors",
        "checkpoint-4/trainer_state.json",
        "checkpoint-6/trainer_state.json",
    ):
        (output / name).unlink()
    config = (output / "config.yaml").read_text().replace(str(whole[0]), str(output))
    (output / "config.yaml").write_text(config)
    assert sft.main([*setting, "--output", str(output), "--report_to", "tensorboard", "--resume"]) == 0
    strip = [
        [{k: e[k] for k in ("step", "eval_miou")} for e in read(o)["evaluations"]] for o in (whole[0], output)
    ]
    assert strip[0] == strip[1]


@pytest.mark.usefixtures("short_answers")
def test_a_run_that_does_not_improve_stops(setting, tmp_path):
    words = [*setting, "--learning_rate", "1e-30", "--patience", "1", "--num_train_epochs", "20"]
    assert sft.main([*words, "--output", str(tmp_path / "run")]) == 0
    assert read(tmp_path / "run")["steps"] == 4
    assert sft.main([*words, "--output", str(tmp_path / "run"), "--resume"]) == 0
    assert read(tmp_path / "run")["steps"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["cpu2", "zero3", "fsdp2"])
def test_two_processes_have_the_evaluation_of_one(setting, tmp_path, launcher):
    """Also with a partitioned model, and with samples that do not divide evenly."""
    words = [*setting, "--evaluate-samples", "3", "--feature-memory-gb", "0"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert sft.main([*words, "--per_device_train_batch_size", "4", "--output", str(one)]) == 0
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    launch += ["--config_file", f"accelerate_configs/{launcher}.yaml"]
    launch += ["--num_processes", "2", "--mixed_precision", "no"]
    module = "tests.train.fsdp_on_cpu" if launcher == "fsdp2" else "geoclick.train.sft"
    script = ["-m", module, *words, "--per_device_train_batch_size", "2", "--output", str(two)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *script], env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (read(folder)["evaluations"] for folder in (one, two))
    assert [entry["step"] for entry in second] == [entry["step"] for entry in first] == [2, 4, 6]
    for key in ("eval_miou", "eval_parse_rate"):
        assert [e[key] for e in second] == pytest.approx([e[key] for e in first], abs=0.02)
    assert vlms.load(setting[1], adapter=two / "best").record is not None
