"""COCO files as tools write them."""

import json

import numpy as np
import pytest

from geoclick.datasets import ReadOptions, coco, read
from tests.paths import SHARED

CASES = SHARED / "cases"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not next to the checkout"),
]


def test_windows_paths_of_a_file_are_found():
    left = []
    samples = list(read("coco", CASES / "coco_backslash", "train", on_left_out=left.append))
    assert len(samples) == 6
    assert left == []


def test_brush_masks_of_cvat_are_targets_on_request_and_the_sentence_names_the_option():
    root, left = CASES / "coco_cvat_brush", []
    assert list(read("coco", root, "train", on_left_out=left.append)) == []
    assert {item.reason for item in left} == {coco.CROWD}
    assert "--crowds" in coco.CROWD
    samples = list(read("coco", root, "train", options=ReadOptions(crowds=True)))
    assert len(samples) == 6
    assert all(sample.mask.any() and sample.valid is None for sample in samples)


def test_turned_pictures_have_the_masks_and_the_score_of_the_upright_ones(tmp_path):
    from geoclick.inference import evaluate

    turned = list(read("coco", CASES / "coco_exif_square", "train"))
    upright = list(read("coco", CASES / "coco_cvat_brush", "train", options=ReadOptions(crowds=True)))
    for sample, expected in zip(turned, upright, strict=True):
        np.testing.assert_array_equal(sample.mask, expected.mask)
        # JPEG against PNG; upside down the mean difference is above 20.
        assert np.abs(sample.read_image().astype(int) - expected.read_image()).mean() < 5
    scores = {}
    for name, *flags in (["coco_exif_square"], ["coco_cvat_brush", "--crowds"], ["coco_backslash"]):
        words = ["--dataset", "coco", "--root", CASES / name, "--split", "train"]
        flags += ["--predictor", "center-point"]
        assert evaluate.main([*map(str, words), *flags, "--output", str(tmp_path / name)]) == 0
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        scores[name] = metrics["scores"]["miou"]
    assert scores["coco_cvat_brush"] == pytest.approx(0.754, abs=5e-3)
    assert scores["coco_backslash"] == scores["coco_cvat_brush"]
    # The same pictures and masks, compressed as JPEG.
    assert scores["coco_exif_square"] == pytest.approx(scores["coco_cvat_brush"], abs=0.02)
