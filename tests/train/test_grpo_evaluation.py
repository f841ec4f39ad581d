"""GRPO with evaluations on held-out images, in several epochs, with augmented images."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from geoclick import datasets, segmenters, vlms
from geoclick.train import card, grpo
from geoclick.train.loop import monitor as monitors
from geoclick.train.loop.evaluation import EvaluationMixin
from geoclick.train.options.grpo import parse
from geoclick.train.reinforcement import held_out_samples, rewards
from tests.train import grpo_runs
from tests.train.grpo_runs import metrics, weights

RUN = ["--evaluate-every", "2", "--evaluate-samples", "3", "--augment", "flip", "rotate", "crop"]
"""Three of six samples are held out: an epoch has three steps."""


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    return [*grpo_runs.setting(tmp_path_factory.mktemp("grpo")), *RUN]


@pytest.fixture(scope="module")
def seen():
    """The samples of the completions of the uninterrupted run."""
    return []


@pytest.fixture(scope="module")
def whole(setting, seen, tmp_path_factory):
    """A run of four steps that was not interrupted, so that the last is in the second epoch."""
    score = rewards.score_completions

    def recorded(vlm, segmenter, embeddings, samples, texts, **options):
        seen.append(samples)
        return score(vlm, segmenter, embeddings, samples, texts, **options)

    output = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rewards, "score_completions", recorded)
        assert grpo.main([*setting, "--output", str(output)]) == 0
    return output


def held_out_of(setting):
    root = setting[setting.index("--root") + 1]
    return held_out_samples.divide(list(datasets.read("folder", root, "train")), 3)


def test_a_run_is_evaluated_on_images_that_it_does_not_train_on(setting, whole, seen):
    held_out, rest = held_out_of(setting)
    figures = metrics(whole)
    assert (figures["rows"], figures["samples_evaluated"]) == (3, 3)
    assert [one["step"] for one in figures["evaluations"]] == [2, 4]
    assert all(0 <= one["eval_miou"] <= 1 for one in figures["evaluations"])
    assert {one.sample_id for group in seen for one in group} == {one.sample_id for one in rest}
    assert not {one.image for group in seen for one in group} & {one.image for one in held_out}
    for step in (2, 4):
        assert Image.open(whole / "evaluations" / f"step-{step:06d}.png").width == 4 * monitors.CELL


def test_groups_are_of_one_view_and_views_change(seen):
    assert len(seen) == 4
    assert all(len({id(one) for one in group}) == 1 for group in seen)
    assert any(hasattr(group[0], "view") for group in seen)


def test_the_figures_are_those_of_the_checkpoint_and_best_is_the_best_one(setting, whole):
    held_out, _ = held_out_of(setting)
    evaluations = metrics(whole)["evaluations"]
    best = max(evaluations, key=lambda one: one["eval_miou"])
    step, saved = weights(whole / f"checkpoint-{best['step']}"), weights(whole / "best")
    assert all(torch.equal(saved[name], step[name]) for name in step)
    vlm = vlms.load("embedded", adapter=whole / "best", device="cpu")
    watch = monitors.Monitor(vlm, segmenters.load(), held_out, "json", False, every=1, patience=0)
    assert monitors.score(watch.evaluate(vlm.model, 0, 1))["eval_miou"] == pytest.approx(best["eval_miou"])


def test_the_rewards_are_in_one_picture_that_the_card_shows(whole, tmp_path):
    assert np.asarray(Image.open(whole / "rewards.png")).std() > 5
    text = (whole / "README.md").read_text()
    assert "## Rewards\n" in text
    assert "![Rewards and held-out mIoU](rewards.png)" in text
    copy = tmp_path / "run"
    shutil.copytree(whole, copy)
    assert card.main([str(copy)]) == 0
    assert (copy / "README.md").read_text() == text
    (copy / "rewards.png").unlink()
    assert card.main([str(copy)]) == 0
    assert "rewards.png" not in (copy / "README.md").read_text()
    assert metrics(whole)["reward_rose_miou_fell"] == []
    assert (whole / "augmented.png").exists()


@pytest.mark.slow
def test_a_killed_run_that_is_resumed_equals_an_uninterrupted_one(setting, whole, tmp_path):
    """SIGKILL after the first checkpoint; the rest has a step of the second epoch and an evaluation."""
    output = tmp_path / "run"
    words = [sys.executable, "-m", "geoclick.train.grpo", *setting, "--output", str(output)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = output / "checkpoint-2" / "trainer_state.json"
    while process.poll() is None and not state.exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (output / "checkpoint-4").exists()
    assert grpo.main([*setting, "--output", str(output), "--resume"]) == 0
    assert_equal_runs(whole, output)


@pytest.mark.slow
def test_a_run_that_is_resumed_in_its_second_epoch_equals_an_uninterrupted_one(setting, tmp_path):
    words = [*setting, "--max_steps", "6", "--save_steps", "1", "--save_total_limit", "9"]
    whole, output = tmp_path / "whole", tmp_path / "run"
    assert grpo.main([*words, "--output", str(whole)]) == 0
    shutil.copytree(whole, output)
    for step in (5, 6):
        shutil.rmtree(output / f"checkpoint-{step}")
    (output / "adapter_model.safetensors").unlink()
    config = (output / "config.yaml").read_text().replace(str(whole), str(output))
    (output / "config.yaml").write_text(config)
    assert grpo.main([*words, "--output", str(output), "--resume"]) == 0
    assert_equal_runs(whole, output)


def assert_equal_runs(one, other):
    """Equal bit by bit: weights, rewards, evaluations, and the best adapter."""
    for folder in (".", "best"):
        first, second = weights(one / folder), weights(other / folder)
        assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("reward", "evaluations", "reward_rose_miou_fell"):
        assert metrics(one)[name] == metrics(other)[name]


@pytest.mark.slow
def test_evaluations_do_not_change_the_training(setting, whole, tmp_path):
    """The same samples, with the held-out images removed from the dataset."""
    held_out, _ = held_out_of(setting)
    root = setting[setting.index("--root") + 1]
    shutil.copytree(root, tmp_path / "scenes")
    listed = tmp_path / "scenes" / "train" / "samples.jsonl"
    kept = [
        line for line in listed.read_text().splitlines() if not any(s.sample_id in line for s in held_out)
    ]
    listed.write_text("\n".join(kept) + "\n")
    words = [str(tmp_path / "scenes") if word == root else word for word in setting]
    assert grpo.main([*words, "--evaluate-every", "0", "--output", str(tmp_path / "run")]) == 0
    assert metrics(tmp_path / "run")["reward"] == metrics(whole)["reward"]
    assert not (tmp_path / "run" / "rewards.png").exists()


@pytest.mark.slow
def test_a_run_that_does_not_improve_stops(setting, tmp_path):
    words = [*setting, "--learning_rate", "1e-30", "--patience", "1", "--max_steps", "40"]
    assert grpo.main([*words, "--output", str(tmp_path / "run")]) == 0
    assert metrics(tmp_path / "run")["steps"] == 4


@pytest.mark.slow
def test_a_falling_miou_with_a_rising_reward_is_one_line(setting, tmp_path, monkeypatch, capsys):
    """The scores of evaluations are replaced; the rewards are higher from step to step."""
    mious, scores = iter([0.6, 0.5]), iter([0.2, 0.4, 0.6, 0.8])
    monkeypatch.setattr(monitors, "score", lambda records: {monitors.METRIC: next(mious)})

    def scored(vlm, segmenter, embeddings, samples, texts, **options):
        score = next(scores)
        return [rewards.ScoredCompletion("ok", 1, True, score) for _ in texts]

    monkeypatch.setattr(rewards, "score_completions", scored)
    assert grpo.main([*setting, "--output", str(tmp_path / "run")]) == 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if "warning: since" in line]
    assert "since step 2 the reward rose from 0.406 to 0.814" in line
    assert "mIoU fell from 0.600 to 0.500" in line
    assert metrics(tmp_path / "run")["reward_rose_miou_fell"] == [4]


@pytest.mark.slow
def test_two_processes_have_the_evaluations_and_samples_of_one(setting, tmp_path):
    """With a learning rate of 0: the random numbers of the answers depend on the process."""
    words = [*setting, "--learning_rate", "1e-30", "--evaluate-samples", "2", "--save_strategy", "best"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert grpo.main([*words, "--output", str(one)]) == 0
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    launch += ["--config_file", "accelerate_configs/cpu2.yaml", "-m", "geoclick.train.grpo", *words]
    launch += ["--per_device_train_batch_size", "2", "--output", str(two)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = metrics(one), metrics(two)
    assert (first["processes"], second["processes"]) == (1, 2)
    assert [step["no_target"] is None for step in first["reward"]] == [
        step["no_target"] is None for step in second["reward"]
    ]
    assert [e["step"] for e in second["evaluations"]] == [2, 4]
    for before, after in zip(first["evaluations"], second["evaluations"], strict=True):
        for key in ("eval_miou", "eval_parse_rate", "eval_mean_clicks"):
            assert after[key] == pytest.approx(before[key], abs=1e-6)
    assert vlms.load("embedded", adapter=two / "best").record.answer_format == "json"
    assert (two / "checkpoint-2").exists()


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--num_iterations", "2", "--save_steps", "2"]])
def test_a_dry_run_reports_what_the_run_needs_and_writes_nothing(
    setting, tmp_path, capsys, monkeypatch, more
):
    lengths = []
    generate = grpo_generate()

    def recorded(self, *args, **kwargs):
        completions, logps = generate(self, *args, **kwargs)
        lengths.append([len(one) for one in completions])
        return completions, logps

    monkeypatch.setattr(
        "geoclick.train.reinforcement.grpo_trainer.ClickGRPOTrainer._generate_single_turn", recorded
    )
    assert grpo.main([*setting, *more, "--dry-run", "--output", str(tmp_path / "run")]) == 0
    assert not (tmp_path / "run").exists()
    report = {
        line[:13].strip(): line[14:] for line in capsys.readouterr().out.splitlines() if line[13:14] == " "
    }
    assert report["samples"] == "3, 3 held out"
    assert report["answers"] == "4 of 1 prompts at once, on 1 process(es), of at most 40 tokens"
    assert report["steps"] == f"{6 if more else 3} an epoch, 4 in all"
    assert "with answers of 40 tokens, the optimizer's state included" in report["memory"]
    assert report["time"].startswith("measured: ")
    assert "for all 2; peak " in report["evaluation"]
    assert report["disk"].startswith("up to ")
    # Two batches of answers of the largest length, then four of any.
    assert len(lengths) == 6
    assert all(set(batch) == {40} for batch in lengths[:2])
    assert all(max(batch) < 40 for batch in lengths[2:])


@pytest.mark.slow
def test_a_card_is_estimated_without_a_step(setting, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("geoclick.train.reinforcement.grpo_trainer.ClickGRPOTrainer.training_step", None)
    assert grpo.main([*setting, "--dry-run", "h100-80gb", "--output", str(tmp_path / "run")]) == 0
    assert not (tmp_path / "run").exists()
    out = capsys.readouterr().out
    assert "estimated from shapes for h100-80gb: base weights" in out
    assert "of 80.0 GB, fits; without the segmenter" in out
    assert "s a step with answers of 40 tokens" in out
    assert "for all 2; keys and values take" in out


def grpo_generate():
    from geoclick.train.reinforcement.grpo_trainer import ClickGRPOTrainer

    assert issubclass(ClickGRPOTrainer, EvaluationMixin)
    return ClickGRPOTrainer._generate_single_turn


@pytest.mark.parametrize(
    ("flags", "code", "expected"),
    [
        (["--evaluate-every", "0", "--patience", "2"], 2, "--patience has no effect without"),
        (["--evaluate-every", "0", "--evaluate-split", "val"], 2, "--evaluate-split has no effect without"),
        (["--evaluate-split", "train"], 2, "is the split of the training"),
        (["--evaluate-split", "val"], 2, "samples.jsonl"),
        (["--evaluate-samples", "99"], 1, "0 samples (6 are held out) are fewer"),
        (["--evaluate-every", "0", "--save_strategy", "best"], 2, "evaluate_every"),
        (["--num_iterations", "2", "--evaluate-every", "3", "--save_strategy", "best"], 2, "a multiple of 2"),
        (["--constrained"], 2, "has no effect without use_vllm"),
        (["--augment", "jitter"], 2, "jitter"),
        (["--eval_steps", "2"], 2, "use evaluate_every"),
    ],
)
def test_bad_input_is_one_sentence(setting, tmp_path, capsys, flags, code, expected):
    assert grpo.main([*setting, "--output", str(tmp_path / "run"), *flags]) == code
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_options_of_the_evaluation_are_those_of_supervised_runs():
    words = ["--adapter", "a", "--root", "r", "--output", "o", *RUN, "--patience", "3"]
    options, _ = parse(words)
    assert (options.evaluate_every, options.evaluate_samples, options.patience) == (2, 3, 3)
    assert options.augment == ("flip", "rotate", "crop")
