import numpy as np
import pytest
from PIL import Image

from geoclick.train.reinforcement import reward_curves
from geoclick.train.reinforcement.reward_curves import diverged_at, intervals, warning

WEIGHTS = {"iou": 1.0, "format": 0.1, "economy": 0.02, "no_target": 1.0}


def logged(step, reward, **parts):
    return {"step": step, "reward": reward} | {f"rewards/{k}/mean": v for k, v in parts.items()}


def evaluated(step, miou):
    return {"step": step, "eval_miou": miou}


def history(*pairs):
    """A log of evaluations with the reward before each; None logs no reward."""
    log = []
    for step, (reward, miou) in enumerate(pairs, start=1):
        log += [logged(step, reward)] if reward is not None else []
        log.append(evaluated(step, miou))
    return log


def test_rewards_are_means_since_the_evaluation_before():
    log = [
        evaluated(0, 0.2),
        logged(1, 0.5, iou=0.4, no_target=None),
        logged(2, 0.7, iou=0.6, no_target=None),
        {"step": 2, "train_loss": 1.0},
        evaluated(2, 0.3),
        logged(3, 1.0, iou=float("nan"), no_target=1.0),
        evaluated(3, 0.4),
    ]
    first, second, third = intervals(log, ["iou", "no_target"])
    assert (first.step, first.miou, first.rewards) == (0, 0.2, {})
    assert second.rewards == {"reward": pytest.approx(0.6), "iou": pytest.approx(0.5)}
    assert third.rewards == {"reward": 1.0, "no_target": 1.0}


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(0.5, 0.6)], []),
        ([(0.5, 0.6), (0.6, 0.7)], []),
        ([(0.5, 0.6), (0.6, 0.58)], [2]),
        ([(0.5, 0.6), (0.6, 0.595)], []),
        ([(0.5, 0.6), (0.4, 0.5)], []),
        ([(0.5, 0.6), (0.4, 0.5), (0.6, 0.5), (0.7, 0.61)], [3]),
        ([(None, 0.6), (0.4, 0.5), (0.6, 0.5)], [3]),
        ([(None, 0.6), (0.4, 0.5)], []),
        ([(None, 0.6), (None, 0.5)], []),
    ],
)
def test_the_reward_must_rise_while_the_miou_falls_since_the_best_evaluation(pairs, expected):
    log = history(*pairs)
    assert diverged_at(log) == expected
    assert bool(warning(log)) == (len(pairs) in expected)


def test_the_warning_is_one_line_with_both_changes():
    text = warning(history((0.5, 0.6), (0.62, 0.58)))
    assert text.startswith("warning: since step 1 the reward rose from 0.500 to 0.620, ")
    assert "mIoU fell from 0.600 to 0.580" in text
    assert "\n" not in text


def test_one_chart_has_the_reward_its_parts_and_the_miou():
    log = [logged(1, 0.56, iou=0.4, format=1.0, economy=0.2, no_target=None), evaluated(1, 0.5)]
    chart = reward_curves.chart(log, WEIGHTS)
    values = {curve.name: curve.values for curve in chart.curves}
    assert values == {
        "reward / 1.12": [pytest.approx(0.5)],
        "iou": [0.4],
        "format": [1.0],
        "economy": [0.2],
        "no_target": [None],
        "held-out mIoU": [0.5],
    }
    assert len({curve.color for curve in chart.curves}) == 6


def test_many_evaluations_have_some_labels():
    chart = reward_curves.chart(history(*[(0.5, 0.5)] * 100), WEIGHTS)
    assert sum(bool(label) for label in chart.labels) <= reward_curves.LABELS
    assert chart.labels[0] == "1"


@pytest.mark.parametrize("changes", [{}, {"iou": 0.0, "economy": 0.0, "format": 0.0, "no_target": 0.0}])
def test_the_picture_shows_the_curves(tmp_path, changes):
    log = [logged(n, 0.1 * n, iou=0.1 * n) for n in (1, 2)] + [evaluated(2, 0.9)]
    reward_curves.write(tmp_path, log, WEIGHTS | changes)
    pixels = np.asarray(Image.open(tmp_path / "rewards.png")).reshape(-1, 3)
    assert (pixels == (0x1C, 0x24, 0x29)).all(1).sum() > 50
