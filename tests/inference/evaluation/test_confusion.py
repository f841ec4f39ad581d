import numpy as np
import pytest

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.class_maps import IGNORED
from geoclick.inference.evaluation import confusion, results, scoring
from tests.inference.evaluation.test_map_predictors import predictor, samples_of

SIZE = (30, 40)


def records_of(name, pairs, asked=None):
    """The records of images, given as pairs of true classes and labels."""
    benchmark = BENCHMARKS[name]
    for number, (truth, labels) in enumerate(pairs):
        samples = samples_of(truth, benchmark, f"{number}.png", asked)
        images = [np.zeros((*SIZE, 3), np.uint8)] * len(samples)
        predictions = predictor(benchmark, labels).predict(samples, images)
        for sample, prediction in zip(samples, predictions, strict=True):
            yield scoring.score_sample(sample, prediction, "semantic")


def summarized(name, records):
    about = predictor(BENCHMARKS[name], None).describe()
    return results.summarize(records, {"mode": "semantic", "seed": 0} | about)


def plain_matrix(pairs, classes):
    matrix = np.zeros((classes, classes), int)
    for truth, labels in pairs:
        for true, label in zip(truth.ravel(), labels.ravel(), strict=True):
            if true != IGNORED:
                matrix[true, label] += 1
    return matrix


@pytest.mark.parametrize(
    ("name", "classes", "asked"),
    [
        ("loveda", 7, None),
        ("vaihingen", 6, None),
        ("whu-aerial", 2, ["building"]),
        ("inria", 2, ["building"]),
    ],
)
def test_scores_are_those_of_a_plain_confusion_matrix(name, classes, asked):
    rng = np.random.default_rng(1)
    pairs = []
    for _ in range(3):
        # The last class is in no target, and the one before it in no map.
        truth = rng.integers(0, max(2, classes - 1), SIZE)
        labels = np.where(rng.random(SIZE) < 0.6, truth, rng.integers(0, classes, SIZE))
        if classes > 2:
            labels[labels == classes - 2] = 0
        truth[rng.random(SIZE) < 0.1] = IGNORED
        pairs.append((truth, labels))
    summary = summarized(name, records_of(name, pairs, asked))
    matrix = plain_matrix(pairs, classes)
    found = summary["confusion"]
    assert found["pixels"] == matrix.tolist()
    assert found["images"] == 3
    assert found["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum(), abs=1e-9)
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    ious = dict(zip(found["classes"], np.diag(matrix) / union, strict=True))
    expected = ious if asked is None else {"building": ious["building"]}
    assert summary["scores"]["per_class"] == pytest.approx(expected, abs=1e-9)
    assert summary["scores"]["miou"] == pytest.approx(np.mean(list(expected.values())), abs=1e-9)
    for number, class_name in enumerate(found["classes"]):
        if class_name not in expected:
            continue
        row = summary["by_category"][class_name]
        true, predicted, both = matrix[number].sum(), matrix[:, number].sum(), matrix[number, number]
        assert row["pixels"] == true
        assert row["recall"] == (pytest.approx(both / true, abs=1e-9) if true else None)
        assert row["precision"] == (pytest.approx(both / predicted, abs=1e-9) if predicted else None)
    assert summary["coverage"] == {"mean": 0.25, "proposals_per_image": 7.0, "images": 3}


def test_images_that_failed_are_counted_as_missing():
    labels = np.zeros(SIZE, int)
    found = list(records_of("loveda", [(labels, labels)] * 2))
    for record in found[7:]:
        for key in ("predicted_as", "coverage", "proposals"):
            del record[key]
        record["status"] = "failed"
    summary = summarized("loveda", found)
    assert summary["confusion"]["images"] == summary["coverage"]["images"] == 1
    assert sum(map(sum, summary["confusion"]["pixels"])) == labels.size
    assert summary["answers"]["by_status"] == {"failed": 7, "map": 7}


def test_without_classes_or_maps_there_is_no_matrix():
    assert confusion.MapSums.of_classes(None) is None
    empty = confusion.MapSums.of_classes({"a": {}, "b": {}})
    assert empty.result() == {
        "classes": ["a", "b"],
        "pixels": [[0, 0], [0, 0]],
        "accuracy": None,
        "images": 0,
    }
    assert empty.coverage_result() is None
