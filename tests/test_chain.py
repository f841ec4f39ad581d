"""The whole chain on the embedded models: scenes, clicks, base, LoRA, upper bound. It must have learnt something."""

import json

import pytest

from geoclick import demo


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    words = ["--train-samples", "900", "--test-samples", "90", "--epochs", "3"]
    assert demo.main(["--output", str(folder), *words]) == 0
    return folder, json.loads((folder / "summary.json").read_text())


def test_lora_beats_base_and_nears_the_upper_bound(summary):
    _, scores = summary
    assert scores["samples"] == 90
    assert scores["lora_miou"] >= scores["base_miou"] + 0.10
    assert scores["lora_miou"] >= 0.5 * scores["upper_bound_miou"]
    assert scores["upper_bound_miou"] > 0.7


def test_the_base_points_at_named_things_and_knows_no_empty_answer(summary):
    folder, _ = summary
    metrics = json.loads((folder / "base" / "metrics.json").read_text())
    assert metrics["answers"]["parse_rate"] > 0.95
    assert metrics["by_task"]["referring"]["miou"] > 0.25
    assert metrics["no_target"]["accuracy"] < 0.1


def test_the_tuned_model_answers_in_its_own_format(summary):
    folder, _ = summary
    metrics = json.loads((folder / "lora" / "metrics.json").read_text())
    assert metrics["protocol"]["answer_format"] == "compact"
    assert metrics["answers"]["parse_rate"] > 0.9
    assert metrics["no_target"]["accuracy"] > 0.5


def test_started_again_it_runs_nothing_twice(summary, capfd):
    folder, scores = summary
    words = ["--train-samples", "900", "--test-samples", "90", "--epochs", "3"]
    assert demo.main(["--output", str(folder), *words]) == 0
    printed = capfd.readouterr().out
    assert "$ geoclick" not in printed
    assert f"{scores['lora_miou']:.3f}" in printed
    assert demo.main(["--output", str(folder), "--train-samples", "901"]) == 1
