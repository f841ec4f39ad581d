import json

import numpy as np
import pytest

from geoclick import demo_figures, images
from tests.geoclick.pages.decoding import decoded
from tests.inference.evaluated import record, square

SIZE = (400, 400)
NOTHING = np.zeros(SIZE, bool)
RIGHT = square(100, 100, 40, SIZE)
OTHER = square(300, 300, 40, SIZE)
CLASSES = {"background": (0, 0, 0), "water": (66, 133, 214), "road": (140, 140, 150)}


@pytest.fixture
def folder(tmp_path):
    """A demo of four samples: in `a` and `none` the tuned model gains, in `b` it loses, in `c` all are right."""
    (tmp_path / "scenes/test/images").mkdir(parents=True)
    images.write_png(tmp_path / "scenes/test/images/0.png", np.full((*SIZE, 3), (20, 90, 40), np.uint8))
    answers = {
        "base": {"a": OTHER, "b": RIGHT, "c": RIGHT, "none": OTHER},
        "lora": {"a": RIGHT, "b": NOTHING, "c": RIGHT, "none": NOTHING},
        "upper_bound": {"a": RIGHT, "b": RIGHT, "c": RIGHT, "none": NOTHING},
    }
    for run, masks in answers.items():
        lines = [
            record(
                name,
                NOTHING if name == "none" else RIGHT,
                mask,
                query=f"query {name}",
                image="test/images/0.png",
                text=f"{run} {name}" + "x" * 300,
                clicks=[[float(np.nonzero(mask)[1].min()) + 20, 120.0, True]] if mask.any() else [],
            )
            for name, mask in masks.items()
        ]
        (tmp_path / run).mkdir()
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / run / "predictions.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


def test_the_sample_of_the_largest_gain_and_that_of_the_largest_loss_are_shown(folder):
    records = demo_figures.read_records(folder)
    gains, failures = demo_figures.gains(folder, records), demo_figures.failures(folder, records)
    assert [figure.query for figure in gains] == ["query a", "query none"]
    assert [figure.query for figure in failures] == ["query b"]
    labels = [picture.label for picture in failures[0].pictures]
    assert labels == ["target", "base model: IoU 1.00", "LoRA-tuned: IoU 0.00", "upper bound: IoU 1.00"]
    assert all(len(text) <= demo_figures.MAX_TEXT + 4 for _, text in failures[0].answers)


def test_no_failure_is_shown_where_the_tuned_model_reaches_the_upper_bound(folder):
    records = demo_figures.read_records(folder)
    same = dict.fromkeys(demo_figures.SHOWN, records["upper_bound"])
    assert demo_figures.failures(folder, same) == []


def test_answers_are_shown_in_one_window_around_all_of_them(folder):
    figure = demo_figures.failures(folder, demo_figures.read_records(folder))[0]
    target, base, lora, bound = (decoded(picture.source).astype(int) for picture in figure.pictures)
    assert base.shape == lora.shape == bound.shape == (demo_figures.SIDE, demo_figures.SIDE, 3)
    # The target has 40 of the 400 pixels of the image, and of the 96 of the window.
    tinted = abs(target - (20, 90, 40)).max(axis=2) > 60
    assert tinted.mean() < 0.05
    assert (abs(base - (20, 90, 40)).max(axis=2) > 60).mean() == pytest.approx((40 / 96) ** 2, abs=0.05)
    assert (abs(base - bound) < 40).all()
    assert not (abs(base - lora) < 40).all()


def test_maps_are_shown_next_to_the_truth_in_the_colors_of_the_classes(tmp_path):
    size = (8, 8)
    left, right = square(0, 0, 4, size), square(4, 4, 4, size)
    valid = ~square(0, 4, 4, size)
    lines = [
        record("0-water", left, right, category="water", image="0.png"),
        record("0-road", right, left, category="road", image="0.png"),
    ]
    for line in lines:
        line["valid"] = demo_figures.masks.encode_rle(valid)
    run = tmp_path / "run"
    run.mkdir()
    images.write_png(tmp_path / "0.png", np.zeros((*size, 3), np.uint8))
    classes = {name: {"prompts": [name], "color": list(color)} for name, color in CLASSES.items()}
    (run / "protocol.json").write_text(json.dumps({"classes": classes}))
    (run / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    colors, figures = demo_figures.map_figures(tmp_path, run)
    assert colors == CLASSES
    ((_, truth, predicted),) = ([decoded(one.source) for one in figure.pictures] for figure in figures)
    assert tuple(truth[0, 0]) == tuple(predicted[7, 7]) == CLASSES["water"]
    assert tuple(truth[7, 7]) == tuple(predicted[0, 0]) == CLASSES["road"]
    assert tuple(truth[7, 0]) == tuple(predicted[7, 0]) == CLASSES["background"]
    assert tuple(truth[0, 7]) == demo_figures.NOT_SCORED
