from pathlib import Path

import numpy as np
import pytest

from geoclick import masks
from geoclick.datasets import Sample
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.class_maps import IGNORED
from geoclick.errors import GeoClickError
from geoclick.inference.evaluation import dataset_classes, map_predictors, scoring
from geoclick.inference.evaluation.map_predictors import ClassMap, MapPredictor

SIZE = (12, 17)


def samples_of(truth, benchmark, image="a.png", asked=None):
    """A sample for each class of a map, int [H, W] with IGNORED, or for some of them."""
    scored = truth != IGNORED
    return [
        Sample(
            sample_id=f"{image}/{name}",
            dataset=benchmark.name,
            split="val",
            task="semantic",
            query=name,
            root=Path("none"),
            image=image,
            size=truth.shape,
            rle=masks.encode_rle(truth == number),
            valid_rle=None if scored.all() else masks.encode_rle(scored),
            category=name,
        )
        for number, name in enumerate(dataset_classes.of_benchmark(benchmark).names)
        if asked is None or name in asked
    ]


def predictor(benchmark, labels, seen=None, refusal=lambda size: ""):
    """Predicts `labels` for each image, and stores the truth that it received."""

    def label(image, truth):
        if seen is not None:
            seen.append(truth)
        return ClassMap(labels, 0.25, 7)

    return MapPredictor(dataset_classes.of_benchmark(benchmark), label, refusal, {"method": "fake"})


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_each_sample_gets_its_class_and_the_record_has_its_row_of_the_confusion_matrix(rng):
    benchmark = BENCHMARKS["loveda"]
    truth, labels = rng.integers(0, 7, SIZE), rng.integers(0, 7, SIZE)
    truth[:3] = IGNORED
    samples, seen = samples_of(truth, benchmark), []
    image = np.zeros((*SIZE, 3), np.uint8)
    predictions = predictor(benchmark, labels, seen).predict(samples, [image] * 7)
    assert np.array_equal(seen, [truth])
    assert np.array_equal([p.mask for p in predictions], [labels == number for number in range(7)])
    for number, (sample, prediction) in enumerate(zip(samples, predictions, strict=True)):
        record = scoring.score_sample(sample, prediction, "semantic")
        expected = np.bincount(labels[truth == number], minlength=7).tolist()
        assert record["predicted_as"] == expected
        assert record["intersection"] == expected[number]
        assert "rest_as" not in record
        assert (record["status"], record["coverage"], record["proposals"]) == ("map", 0.25, 7)


@pytest.mark.parametrize("name", ["inria", "whu-aerial"])
def test_with_one_class_the_rest_is_background(rng, name):
    benchmark = BENCHMARKS[name]
    truth, labels = rng.integers(0, 2, SIZE), rng.integers(0, 2, SIZE)
    truth[:, :2] = IGNORED
    (sample,), seen = samples_of(truth, benchmark, asked=["building"]), []
    (prediction,) = predictor(benchmark, labels, seen).predict([sample], [np.zeros((*SIZE, 3), np.uint8)])
    assert np.array_equal(seen, [truth])
    record = scoring.score_sample(sample, prediction, "semantic")
    assert record["predicted_as"] == np.bincount(labels[truth == 1], minlength=2).tolist()
    assert record["rest_as"] == np.bincount(labels[truth == 0], minlength=2).tolist()


def test_several_images_in_one_call_and_an_image_that_cannot_be_taken(rng):
    benchmark = BENCHMARKS["loveda"]
    labels = rng.integers(0, 7, SIZE)
    small = np.zeros((4, 5), int)
    samples = samples_of(labels, benchmark, "a.png") + samples_of(small, benchmark, "b.png")
    images = [np.zeros((*sample.size, 3), np.uint8) for sample in samples]
    refusal = lambda size: "too small" if size == (4, 5) else ""  # noqa: E731
    predictions = predictor(benchmark, labels, refusal=refusal).predict(samples, images)
    assert [p.status for p in predictions] == ["map"] * 7 + ["failed"] * 7
    assert predictions[7].error == "too small"
    assert predictions[7].mask.shape == (4, 5)
    record = scoring.score_sample(samples[7], predictions[7], "semantic")
    assert not {"predicted_as", "coverage", "proposals"} & record.keys()


def test_an_error_of_the_models_is_no_wrong_answer(rng):
    benchmark = BENCHMARKS["loveda"]

    def label(image, truth):
        raise GeoClickError("The memory of the GPU is too small.")

    broken = MapPredictor(dataset_classes.of_benchmark(benchmark), label, lambda size: "", {})
    samples = samples_of(rng.integers(0, 7, SIZE), benchmark)
    with pytest.raises(GeoClickError, match="memory of the GPU"):
        broken.predict(samples, [np.zeros((*SIZE, 3), np.uint8)] * 7)


def test_the_protocol_lists_the_prompts():
    about = predictor(BENCHMARKS["udd5"], np.zeros(SIZE, int)).describe()
    assert list(about["classes"]) == ["vegetation", "building", "road", "vehicle", "other"]
    assert about["classes"]["other"]["prompts"] == ["background"]
    assert about["background"] == "other"
    assert about["method"] == "fake"


def test_true_classes_without_a_background_leave_other_pixels_out():
    benchmark = BENCHMARKS["loveda"]
    classes = dataset_classes.of_benchmark(benchmark)
    truth = np.full(SIZE, 2)
    only = samples_of(truth, benchmark, asked=["road"])
    assert np.array_equal(map_predictors.true_classes(only, classes), truth)
