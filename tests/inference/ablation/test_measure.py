"""A row has the scores of a plain confusion matrix and of `geoclick evaluate`, whatever memory and cache hold."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.class_maps import IGNORED
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference import evaluate
from geoclick.inference.ablation import data
from geoclick.inference.ablation import options as ablation_options
from geoclick.inference.ablation.measure import Measurement, Memory, Models
from geoclick.inference.ablation.options import AblateOptions
from geoclick.inference.contrastive.cache import Cache
from geoclick.inference.evaluation.dataset_classes import of_benchmark
from geoclick.inference.evaluation.map_predictors import true_classes

POINTS = 6


@pytest.fixture(scope="module")
def options(loveda):
    return AblateOptions(
        dataset="loveda", root=str(loveda), output="", points_per_side=POINTS, threshold=0.4, device="cpu"
    )


@pytest.fixture(scope="module")
def found(options, loveda):
    return data.read(options, loveda, "val")


@pytest.fixture(scope="module")
def measured(options, found, tmp_path_factory):
    """Measures a setting that differs from the base as given; returns its row and its pipeline."""
    models = Models(found.classes, Cache(tmp_path_factory.mktemp("cache")), "cpu")

    def call(*moves, memory=None):
        setting = ablation_options.base(options, found.classes)
        for axis, value in moves:
            setting = setting.at(axis, value)
        setting = models.complete(setting)
        loaded = models.pipeline(setting)
        measurement = Measurement(found.images, models, memory or Memory())
        return measurement.row(loaded, setting), loaded

    return call


def plain_scores(loaded, found, oracle):
    """IoU of each class from one confusion matrix of all images, and the mean coverage."""
    count = len(found.classes.names)
    matrix = np.zeros((count, count), np.int64)
    covered = []
    for samples in found.images:
        truth = true_classes(samples, found.classes)
        result = loaded.label(samples[0].read_image(), truth if oracle else None)
        for true, predicted in zip(truth.ravel(), result.labels.ravel(), strict=True):
            if true != IGNORED:
                matrix[true, predicted] += 1
        covered.append(result.coverage)
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    ious = np.diag(matrix) / np.where(union, union, np.nan)
    return ious, covered


@pytest.mark.parametrize("select", ["vote", "dense", "soft-vote", "pool", "crop-mean", "oracle-proposals"])
def test_a_row_is_that_of_a_plain_confusion_matrix(measured, found, select):
    row, loaded = measured(("select", select))
    ious, covered = plain_scores(loaded, found, select == "oracle-proposals")
    assert abs(row["miou"] - np.nanmean(ious)) < 1e-9
    values = [np.nan if value is None else value for value in row["per_class"].values()]
    np.testing.assert_allclose(values, ious, rtol=0, atol=1e-9)
    assert list(row["per_class"]) == list(found.classes.names)
    assert row["setting"]["select"] == select
    if select == "dense":
        assert (row["coverage"], row["proposals"]) == (None, None)
    else:
        assert row["coverage"] == pytest.approx(np.mean(covered), abs=1e-12)


def test_rows_do_not_depend_on_what_is_in_memory_or_in_the_cache(measured):
    moves = [
        (("threshold", 0.6),),
        (("select", "crop"),),
        (("scale", 20.0),),
        (("threshold", 0.0), ("overlaps", "margin")),
    ]
    one, none = Memory(), Memory(0)
    for own in (*moves, *moves):
        scores = [measured(*own, memory=memory)[0] for memory in (one, none)]
        for name in ("miou", "miou_interval", "per_class", "coverage", "proposals"):
            assert scores[0][name] == scores[1][name]
    assert scores[0]["computed"] == 0
    assert scores[1]["read"] > 0


def test_the_base_is_the_evaluation_with_the_same_options(measured, loveda, tmp_path):
    words = ["--dataset", "loveda", "--root", loveda, "--predictor", "contrastive", "--device", "cpu"]
    words += ["--points-per-side", POINTS, "--threshold", 0.4, "--output", tmp_path / "out"]
    assert evaluate.main([*map(str, words)]) == 0
    scores = json.loads((tmp_path / "out/metrics.json").read_text())["scores"]
    row, _ = measured()
    assert row["miou"] == scores["miou"]
    assert row["per_class"] == scores["per_class"]
    assert row["miou_interval"] == scores["miou_interval"]


def test_memory_drops_what_was_used_least_recently():
    memory = Memory(10)
    calls = []

    def value(name, size):
        return memory.value((name,), lambda: calls.append(name) or name, lambda _: size)

    assert [value("a", 4), value("b", 4), value("a", 4), value("c", 4), value("a", 4)] == [
        "a",
        "b",
        "a",
        "c",
        "a",
    ]
    assert value("b", 4) == "b"
    assert calls == ["a", "b", "c", "b"]
    assert memory.size == 8
    assert value("large", 40) == "large"
    assert memory.size == 40


def test_an_image_that_cannot_be_measured_is_named(measured, found, options, tmp_path):
    broken = replace(found.images[0][0], root=tmp_path)
    models = Models(found.classes, Cache(tmp_path / "cache"), "cpu")
    setting = models.complete(ablation_options.base(options, found.classes))
    with pytest.raises(GeoClickError, match=f"^{broken.image}: "):
        Measurement([[broken]], models, Memory()).row(models.pipeline(setting), setting)


def test_class_bias_is_the_published_one_and_refused_for_a_siglip(options, tmp_path):
    models = Models(of_benchmark(BENCHMARKS["xbd"]), Cache(tmp_path), "cpu")
    base = ablation_options.base(replace(options, dataset="xbd", features="segearth-ov"), models.classes)
    models._clips[base.clip] = SimpleNamespace(name="ViT-B-16", is_siglip=False)
    assert models.complete(base).settings.class_bias == 0.0
    assert models.complete(base.at("class-bias", -0.1)).settings.class_bias == -0.1
    models._clips[base.clip] = SimpleNamespace(name="siglip", is_siglip=True)
    assert models.complete(base).settings.class_bias == 0.0
    with pytest.raises(UsageError, match="siglip is a SigLIP without a class token; set --class-bias to 0"):
        models.pipeline(models.complete(base.at("class-bias", -0.1)))


def test_data_is_identified_by_its_content(loveda, options, found):
    assert len(found.images) == 2
    assert {len(samples) for samples in found.images} == {7}
    first = data.read(replace(options, first=1), loveda, "val")
    assert [samples[0].image for samples in first.images] == [found.images[0][0].image]
    picks = {
        data.read(replace(options, limit=1, seed=seed), loveda, "val").images[0][0].image for seed in range(8)
    }
    assert len(picks) == 2
    assert first.decisive["pixels_sha256"] != found.decisive["pixels_sha256"]
    assert found.decisive["prompts"]["building"] == ["building", "roof", "house"]
