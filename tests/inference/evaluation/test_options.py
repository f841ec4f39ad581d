import json

import numpy as np
import pytest

from geoclick import images
from geoclick.errors import UsageError
from geoclick.inference import evaluate
from geoclick.inference.evaluation.options import EvaluateOptions, resolve
from geoclick.scoring.modes import MODES


def resolved(**values):
    result = resolve(EvaluateOptions(output="out", root="data", **values))
    return result.split, result.mode, result.question


def test_a_dataset_of_your_own_is_scored_on_its_test_split_in_mode_native():
    assert resolved() == ("test", "native", "all")
    assert resolved(split="val", question="first") == ("val", "native", "first")


def test_a_benchmark_sets_split_and_mode():
    assert resolved(dataset="loveda") == ("val", "semantic", "all")
    assert resolved(dataset="rrsis-d") == ("test", "native", "all")


@pytest.mark.parametrize(("mode", "question"), [("segearth-r1", "first"), ("think2seg", "random")])
def test_a_mode_sets_the_question_unless_it_is_given(mode, question):
    assert MODES[mode].question == question
    assert resolved(mode=mode) == ("test", mode, question)
    assert resolved(mode=mode, question="all") == ("test", mode, "all")


def test_options_that_do_not_fit_are_usage_errors():
    with pytest.raises(UsageError, match="needs a dataset with classes"):
        resolved(mode="semantic")
    with pytest.raises(UsageError, match="at most 1"):
        resolved(noise=1.5)
    with pytest.raises(UsageError, match="Missing --root"):
        resolve(EvaluateOptions(output="out"))


def test_other_options_stay_and_keep_their_order():
    options = EvaluateOptions(output="out", root="data", noise=0.3, compare=("a", "b"))
    result = resolve(options)
    assert list(vars(result)) == list(vars(options))
    assert (result.noise, result.compare, result.seed) == (0.3, ("a", "b"), 0)


@pytest.mark.parametrize("place", ["", "test"])
def test_folders_with_a_legend_are_scored_by_class(tmp_path, place):
    """Two images of unequal size: a class's IoU is that of all its pixels, ignored ones left out."""
    for folder in ("images", "masks"):
        (tmp_path / "test" / folder).mkdir(parents=True)
    legend = {"classes": {"Road": [255, 0, 0], "Roof": [0, 0, 255]}, "ignore": [[0, 0, 0]]}
    (tmp_path / place / "classes.json").write_text(json.dumps(legend))
    for name, size in (("a", (20, 30)), ("b", (50, 40))):
        mask = np.zeros((*size, 3), np.uint8)
        mask[: size[0] // 2, :, 0] = 255
        mask[size[0] // 2 : -2, :, 2] = 255
        images.write_png(tmp_path / f"test/images/{name}.png", mask)
        images.write_png(tmp_path / f"test/masks/{name}.png", mask)
    flags = ["--root", str(tmp_path), "--predictor", "noisy", "--output", str(tmp_path / "out")]
    assert evaluate.main([*flags, "--mode", "semantic", "--components"]) == 2
    assert evaluate.main([*flags, "--mode", "semantic"]) == 0
    scores = json.loads((tmp_path / "out/metrics.json").read_text())["scores"]
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").open()]
    assert (scores["n"], scores["images"], list(scores["per_class"])) == (4, 2, ["Road", "Roof"])
    for name, iou in scores["per_class"].items():
        own = [line for line in lines if line["category"] == name]
        assert iou == sum(line["intersection"] for line in own) / sum(line["union"] for line in own)
    assert scores["miou"] == pytest.approx(np.mean(list(scores["per_class"].values())))
