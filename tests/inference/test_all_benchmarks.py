"""`geoclick evaluate` end to end on a tiny copy of every benchmark, run as commands; takes minutes."""

import json
import subprocess
import sys

import pytest

from geoclick import masks
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.scoring import records
from tests.inference.kills import kill_ten_times
from tests.paths import REPO

pytestmark = pytest.mark.slow

NOISE = 0.1
FILES = ("predictions.jsonl", "metrics.json", "protocol.json", "model-index.yaml")
DESCRIBED = [name for name, benchmark in BENCHMARKS.items() if benchmark.task != "semantic"]
LAUNCHER = REPO / "accelerate_configs" / "cpu2.yaml"


def geoclick(*words):
    command = [sys.executable, "-m", "geoclick.cli", *map(str, words)]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def in_two_processes(*words):
    launch = [
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        LAUNCHER,
        "-m",
        "geoclick.inference.evaluate",
    ]
    command = [sys.executable, *map(str, [*launch, *words])]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def make_copy(tmp_path, name, count=4):
    root = tmp_path / name
    geoclick("scenes", root, "--layout", name, "--count", count)
    return ["--dataset", name, "--root", root]


def check_same_files(one, two):
    for name in FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


@pytest.mark.parametrize("name", BENCHMARKS)
def test_noise_has_the_expected_score_in_one_process_and_in_two(name, tmp_path):
    words = [
        *make_copy(tmp_path, name),
        "--predictor",
        "noisy",
        "--noise",
        NOISE,
        "--batch-size",
        2,
        "--output",
    ]
    geoclick("evaluate", *words, tmp_path / "one")
    in_two_processes(*words, tmp_path / "two")
    check_same_files(tmp_path / "one", tmp_path / "two")
    summary = json.loads((tmp_path / "one/metrics.json").read_text())
    found = list(records.read(tmp_path / "one/predictions.jsonl"))
    groups = {}
    for entry in found:
        height, width = entry["size"]
        valid = height * width if entry["valid"] is None else masks.area(entry["valid"])
        target = masks.area(entry["target"])
        key = entry["category"] if summary["protocol"]["mode"] == "semantic" else ""
        kept, united = groups.get(key, (0.0, 0.0))
        groups[key] = kept + (1 - NOISE) * target, united + target + NOISE * (valid - target)
    expected = {key: kept / united for key, (kept, united) in groups.items()}
    if summary["protocol"]["mode"] == "semantic":
        assert summary["scores"]["per_class"] == pytest.approx(expected, abs=0.01)
        assert summary["scores"]["miou"] == pytest.approx(sum(expected.values()) / len(expected), abs=0.01)
    else:
        assert summary["scores"]["oiou"] == pytest.approx(expected[""], abs=0.01)
    assert (tmp_path / "one/report.html").stat().st_size > 10_000


@pytest.mark.parametrize("name", DESCRIBED)
def test_models_predict_in_one_process_and_in_two(name, tmp_path):
    place = make_copy(tmp_path, name)
    split = BENCHMARKS[name].split
    geoclick("synth", *place, "--split", split, "--output", tmp_path / "clicks")
    scores = {}
    ways = {"oracle": ["--clicks", tmp_path / "clicks"], "generative": [], "center-point": []}
    for predictor, more in ways.items():
        words = [*place, "--predictor", predictor, *more, "--batch-size", 2, "--output"]
        geoclick("evaluate", *words, tmp_path / predictor)
        summary = json.loads((tmp_path / predictor / "metrics.json").read_text())
        scores[predictor] = summary["scores"]["miou"]
        if predictor in ("oracle", "generative"):
            in_two_processes(*words, tmp_path / f"{predictor}-two")
            check_same_files(tmp_path / predictor, tmp_path / f"{predictor}-two")
    print(name, {predictor: round(score, 3) for predictor, score in scores.items()})
    assert scores["oracle"] > 0.85
    assert 0 <= scores["generative"] <= 1


def test_ten_kills_do_not_change_the_result(tmp_path):
    words = [*make_copy(tmp_path, "rrsis-d", 60), "--predictor", "generative", "--batch-size", 1]
    geoclick("evaluate", *words, "--output", tmp_path / "complete")
    output = tmp_path / "killed"
    left = kill_ten_times(words, output)
    print("answers after each kill", left)
    geoclick("evaluate", *words, "--output", output)
    assert json.loads((output / "run.json").read_text())["resumed"] == left[-1]
    check_same_files(output, tmp_path / "complete")
