"""Predictions on windows of a large image, put together again."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoclick import images
from geoclick.geo.tiles import Window
from geoclick.inference.generative.prediction import Prediction, failed
from geoclick.inference.predictions import windows
from tests.inference.predictions.thresholds import Thresholds, predict


def picture(height=50, width=70):
    image = np.full((height, width, 3), 100, np.uint8)
    image[10:30, 20:45] = 255
    return image


def test_samples_of_all_windows_are_recorded_and_the_lowest_scores(tmp_path):
    predictor = Thresholds()
    predictor.samples = 2
    images.write_png(tmp_path / "a.png", picture())
    assert predict(tmp_path / "out", [tmp_path / "a.png"], ("bright",), predictor, tile=40, overlap=0) == {}
    record = json.loads((tmp_path / "out/a.json").read_text())
    count = len(predictor.shown)
    assert count == 4
    expected = [{"text": f"bright{number}", "status": "ok"} for number in range(2)]
    assert record["sampled"] == expected * count
    assert record["confidence"] == pytest.approx(record["score"] / 2, abs=1e-6)
    assert record["score"] == min(round(float(part[..., 0].mean()) / 255, 6) for part in predictor.shown)
    assert "agreement" not in record


@settings(max_examples=30)
@given(st.integers(5, 80), st.data())
def test_a_mask_by_windows_is_that_of_the_image(tmp_path_factory, tile, data):
    folder, predictor = tmp_path_factory.mktemp("windows"), Thresholds()
    images.write_png(folder / "a.png", picture())
    overlap = data.draw(st.integers(0, tile - 1).map(lambda most: min(most, 20)))
    texts, sizes = ("bright", "dark"), data.draw(st.integers(1, 9))
    failures = predict(
        folder, [folder / "a.png"], texts, predictor, batch_size=sizes, tile=tile, overlap=overlap
    )
    assert failures == {}
    mask = images.read_gray(folder / "a.bright.mask.png") > 0
    np.testing.assert_array_equal(mask, picture()[..., 0] > 128)
    assert not images.read_gray(folder / "a.dark.mask.png").any()
    # An image is cut once for all its texts, so that each window is embedded once.
    assert len({id(part) for part in predictor.shown}) == len(predictor.shown) // 2
    assert all(max(part.shape[:2]) <= tile for part in predictor.shown)
    assert all(queries <= max(2, sizes + 1) for queries in predictor.batches)


@pytest.mark.parametrize("tile", [None, 70])
def test_an_image_that_is_not_cut_is_asked_once(tile, tmp_path):
    images.write_png(tmp_path / "a.png", picture())
    predictor = Thresholds()
    assert predict(tmp_path, [tmp_path / "a.png"], predictor=predictor, tile=tile) == {}
    assert [part.shape for part in predictor.shown] == [(50, 70, 3)]


def test_the_worst_status_is_that_of_the_image_and_an_error_fails_it():
    parts = [Window(0, 0, 10, 10), Window(0, 10, 10, 10)]
    answers = [
        Prediction(np.zeros((10, 10), bool), (), text, status)
        for text, status in (("a", "ok"), ("b", "repaired"))
    ]
    both = windows.together((10, 20), list(zip(parts, answers, strict=True)))
    assert (both.status, both.text, both.mask.shape) == ("repaired", "a\nb", (10, 20))
    both = windows.together((10, 20), [(parts[0], answers[0]), (parts[1], failed((10, 10), "too narrow"))])
    assert (both.status, both.error) == ("failed", "too narrow")
