"""Every predictor of maps on a tiny copy of each benchmark of land cover and of one class; takes half an hour."""

import json
import subprocess
import sys

import numpy as np
import pytest

from geoclick import masks
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.inference.evaluation import dataset_classes
from geoclick.inference.evaluation.options import MAP_PREDICTORS, WITH_PROPOSALS
from geoclick.scoring import records
from tests import tiny_sam3
from tests.inference.kills import kill_ten_times
from tests.inference.test_all_benchmarks import LAUNCHER, check_same_files, geoclick, make_copy
from tests.paths import REPO

pytestmark = pytest.mark.slow

SEMANTIC = [name for name, benchmark in BENCHMARKS.items() if benchmark.task == "semantic"]
POINTS = 6


@pytest.fixture(scope="module")
def sam3(tmp_path_factory):
    return tiny_sam3.folder(tmp_path_factory.mktemp("sam3"))


def evaluations(place, output, sam3, *more):
    """The words of an evaluation with each predictor."""
    for predictor in MAP_PREDICTORS:
        words = [*place, "--predictor", predictor, "--batch-size", 1, "--gallery", 1]
        words += ["--output", output / predictor]
        if predictor in WITH_PROPOSALS:
            words += ["--points-per-side", POINTS]
        words += ["--sam3", sam3] if predictor == "sam3" else more
        yield list(map(str, words))


def run_all(all_words, *launch):
    command = [*launch, "-m", "tests.inference.run_evaluations", json.dumps(list(all_words))]
    result = subprocess.run([sys.executable, *map(str, command)], cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]


def plain_matrix(name, folder):
    """The confusion matrix of the masks in predictions.jsonl, pixel by pixel."""
    names = dataset_classes.of_benchmark(BENCHMARKS[name]).names
    ignored = len(names)
    maps = {}
    for record in records.read(folder / "predictions.jsonl"):
        number = names.index(record["category"])
        # Of a single class, all other pixels are background.
        fill = 1 - number if BENCHMARKS[name].foreground is not None else ignored
        truth, labels = maps.setdefault(record["image"], np.full((2, *record["size"]), fill))
        truth[masks.decode_rle(record["target"])] = number
        labels[masks.decode_rle(record["mask"])] = number
        if record["valid"] is not None:
            truth[~masks.decode_rle(record["valid"])] = ignored
    matrix = np.zeros((ignored + 1, ignored + 1), int)
    for truth, labels in maps.values():
        np.add.at(matrix, (truth.ravel(), labels.ravel()), 1)
    assert not matrix[:-1, -1].any()
    return names, matrix[:-1, :-1]


def check_scores(name, folder):
    """The scores are those of a plain confusion matrix; returns the mIoU."""
    summary = json.loads((folder / "metrics.json").read_text())
    names, matrix = plain_matrix(name, folder)
    assert summary["confusion"]["pixels"] == matrix.tolist()
    assert summary["answers"]["by_status"] == {"map": summary["protocol"]["n"]}
    both = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - both
    foreground = BENCHMARKS[name].foreground
    asked = [BENCHMARKS[name].names[foreground]] if foreground is not None else names
    ious = {
        one: both[number] / union[number] if union[number] else None
        for number, one in enumerate(names)
        if one in asked
    }
    assert summary["scores"]["per_class"] == pytest.approx(ious, abs=1e-9)
    present = [iou for iou in ious.values() if iou is not None]
    assert summary["scores"]["miou"] == pytest.approx(np.mean(present), abs=1e-9)
    assert (folder / "report.html").stat().st_size > 10_000
    protocol = summary["protocol"]
    if protocol["predictor"] != "sam3":
        published = (BENCHMARKS[name].threshold, "published")
        assert (protocol["threshold"], protocol["threshold_source"]) == published
    return summary["scores"]["miou"]


@pytest.mark.parametrize("name", SEMANTIC)
def test_every_predictor_of_maps_in_one_process_and_in_two(name, tmp_path, sam3):
    place = make_copy(tmp_path, name, 2)
    run_all(evaluations(place, tmp_path / "one", sam3, "--cache", tmp_path / "cache"))
    launch = ("-m", "accelerate.commands.launch", "--config_file", LAUNCHER)
    run_all(evaluations(place, tmp_path / "two", sam3), *launch)
    scores = {}
    for predictor in MAP_PREDICTORS:
        check_same_files(tmp_path / "one" / predictor, tmp_path / "two" / predictor)
        scores[predictor] = check_scores(name, tmp_path / "one" / predictor)
    print(name, {predictor: round(float(score), 3) for predictor, score in scores.items()})
    # No strict bound: with one class the selection is a union, and the upper bound a map with small masks on top.
    assert scores["oracle-proposals"] > scores["contrastive"] - 0.02


def test_ten_kills_do_not_change_the_result(tmp_path):
    words = [*make_copy(tmp_path, "whu-aerial", 24), "--predictor", "contrastive", "--batch-size", 2]
    words += ["--points-per-side", POINTS]
    geoclick("evaluate", *words, "--output", tmp_path / "complete")
    output = tmp_path / "killed"
    left = kill_ten_times(words, output)
    print("answers after each kill", left)
    geoclick("evaluate", *words, "--output", output)
    assert json.loads((output / "run.json").read_text())["resumed"] == left[-1]
    check_same_files(output, tmp_path / "complete")
