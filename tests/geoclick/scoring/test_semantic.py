import itertools

import numpy as np
import pytest

from geoclick.errors import GeoClickError
from geoclick.scoring import metrics
from geoclick.scoring.semantic import SemanticScores

CLASSES = ("background", "road", "water", "ship")


@pytest.fixture(scope="module")
def labels():
    """Twelve pairs of predicted and true label maps, 255 ignored; no ship in any, water in few."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(12):
        shape = tuple(rng.integers(5, 20, 2))
        true, predicted = rng.integers(0, 3 if i < 4 else 2, (2, *shape))
        true[rng.random(shape) < 0.1] = 255
        made.append((predicted, true))
    return made


def scored(labels, classes=CLASSES):
    scores = SemanticScores()
    for (number, (predicted, true)), name in itertools.product(enumerate(labels), classes):
        index = CLASSES.index(name)
        found = metrics.compare(predicted == index, true == index, "semantic", true != 255)
        scores.count(f"{number}.png", name, found.intersection, found.union)
    return scores


def test_classes_are_scored_over_the_complete_set(labels):
    """Against a confusion matrix of all valid pixels."""
    predicted = np.concatenate([p[t != 255] for p, t in labels])
    true = np.concatenate([t[t != 255] for _, t in labels])
    matrix = np.zeros((4, 4), int)
    np.add.at(matrix, (true, predicted), 1)
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    expected = np.diag(matrix)[:3] / union[:3]
    result = scored(labels).result()
    assert list(result["per_class"].values())[:3] == pytest.approx(expected.tolist(), abs=1e-9)
    # An absent class is not part of the mean, as in mmsegmentation.
    assert result["per_class"]["ship"] is result["per_class_interval"]["ship"] is None
    assert result["miou"] == pytest.approx(expected.mean(), abs=1e-9)
    assert (result["n"], result["images"]) == (48, 12)
    assert "foreground_iou" not in result
    low, high = result["miou_interval"]
    assert low < result["miou"] < high


def test_the_interval_is_over_images(labels):
    """Resampling images one by one, summing their pixels, gives the same."""
    scores = scored(labels, CLASSES[:2])
    inner, outer = scores.pixels()
    rng = np.random.default_rng(7)
    drawn = [rng.integers(12, size=12) for _ in range(1000)]
    means = [(inner[rows].sum(0) / outer[rows].sum(0)).mean() for rows in drawn]
    assert scores.result(7)["miou_interval"] == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist())


def test_one_class_besides_the_background_is_the_foreground(labels):
    both, alone = scored(labels, CLASSES[:2]).result(), scored(labels, CLASSES[1:2]).result()
    assert both["foreground_iou"] == both["per_class"]["road"] == alone["foreground_iou"] == alone["miou"]
    assert both["miou"] == pytest.approx(np.mean(list(both["per_class"].values())))
    assert alone["foreground_iou_interval"] == alone["miou_interval"] == both["foreground_iou_interval"]


def test_a_false_alarm_in_an_image_without_the_class_counts():
    scores = SemanticScores()
    scores.count("a", "road", 10, 10)
    assert scores.result()["miou"] == 1
    scores.count("b", "road", 0, 30)
    assert scores.result()["miou"] == 0.25


def test_no_pairs_and_no_pixels():
    with pytest.raises(GeoClickError, match="nothing to score"):
        SemanticScores().result()
    scores = SemanticScores()
    scores.count("a", "road", 0, 0)
    result = scores.result()
    assert result["miou"] is result["miou_interval"] is result["foreground_iou"] is None
