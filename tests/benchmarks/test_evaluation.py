"""The evaluation benchmark, on a few small samples."""

import json

import pytest

from benchmarks import evaluation


def test_the_time_is_that_of_a_real_run(tmp_path):
    options = evaluation.EvaluationOptions(output="", side=64, samples=70)
    steps = evaluation.cost(tmp_path / "cost", options)["steps"]
    assert list(steps) == ["records, written", "joined in order", "metrics.json", "report"]
    assert min(steps.values()) > 0
    assert len((tmp_path / "cost/predictions.jsonl").read_text().splitlines()) == 70
    assert (tmp_path / "cost/report.html").is_file()


@pytest.mark.slow
def test_memory_is_that_of_the_command(tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["--side", "64", "--samples", "5", "--memory-side", "32", "--memory-samples", "5"]
    assert evaluation.main(["--output", str(output), *arguments]) == 0
    (run,) = json.loads((output / "evaluation.json").read_text())["runs"]
    assert run["samples"] == 5
    assert run["peak_mb"] > 50
    assert json.loads((output / "5-run/metrics.json").read_text())["scores"]["n"] == 5
    assert evaluation.main(["--output", str(output)]) == 2
    assert "another --output" in capsys.readouterr().err


def test_some_masks_are_empty_and_most_pairs_agree_partly():
    pairs = list(evaluation.draw_masks(64, 0))
    assert sum(not target.any() for target, _ in pairs) == sum(not mask.any() for _, mask in pairs) == 4
    assert sum((target & mask).any() and (target != mask).any() for target, mask in pairs) > 40
