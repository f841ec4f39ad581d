import numpy as np
import pytest
from scipy.stats import spearmanr

from geoclick.inference.evaluation import ranking


def brute(order, risks):
    """The area under the risk-coverage curve by its definition."""
    return np.mean([np.mean([risks[i] for i in order[: k + 1]]) for k in range(len(order))])


def test_the_area_is_the_mean_risk_of_all_beginnings():
    rng = np.random.default_rng(0)
    scores, ious = rng.permutation(50) / 50, rng.random(50)
    found = ranking.ranking(tuple(scores), tuple(ious))
    assert found["aurc"] == pytest.approx(brute(np.argsort(-scores), 1 - ious))
    assert found["best_aurc"] == pytest.approx(brute(np.argsort(-ious), 1 - ious))
    assert found["random_aurc"] == pytest.approx(1 - ious.mean())
    tied = np.round(scores, 1)
    expected = spearmanr(tied, ious).statistic
    assert ranking.ranking(tuple(tied), tuple(ious))["spearman"] == pytest.approx(expected)


def test_perfect_reversed_and_constant_scores():
    ious = (0.1, 0.5, 0.9, 1.0)
    best = ranking.ranking(ious, ious)
    assert best["spearman"] == pytest.approx(1)
    assert best["aurc"] == pytest.approx(best["best_aurc"])
    worst = ranking.ranking(tuple(-iou for iou in ious), ious)
    assert worst["spearman"] == pytest.approx(-1)
    assert worst["aurc"] > worst["random_aurc"] > best["aurc"]
    constant = ranking.ranking((0.5,) * 4, ious)
    assert constant["spearman"] is None
    assert constant["aurc"] == pytest.approx(constant["random_aurc"])


def test_only_scores_that_samples_have_are_ranked():
    rankings = ranking.Rankings()
    for score, iou in ((0.9, 1.0), (None, 0.0), (0.5, 0.25)):
        rankings.count({"iou": iou, "probability": 0.5} | ({} if score is None else {"score": score}))
    found = rankings.result()
    assert list(found) == ["score", "probability"]
    assert (found["score"]["n"], found["probability"]["n"]) == (2, 3)
    assert ranking.Rankings().result() == {}
