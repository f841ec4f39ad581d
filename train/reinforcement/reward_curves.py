"""The rewards of a GRPO run against the held-out mIoU: one picture, and a warning where they diverge."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from geoclick import files
from geoclick.pages import line_chart
from geoclick.pages.line_chart import Curve, LineChart
from geoclick.train import card
from geoclick.train.loop.monitor import METRIC, LogEntry

REWARD = "reward"
DROP = 0.01
"""Smallest fall of the mIoU below its best that counts."""
IOU = "iou"
COLORS = ("#8a3ffc", "#009e73", "#e69f00", "#cc79a7", "#0072b2", "#1c2429")
"""Of the reward, its parts and the mIoU."""
LABELS = 12
"""Labels of the horizontal axis at most."""


class Interval(NamedTuple):
    """An evaluation and the rewards since the one before.

    Attributes:
        step: of the evaluation.
        miou: held-out.
        rewards: means over the logged steps since the evaluation before, by name; without those that applied to no
            completion.
    """

    step: int
    miou: float
    rewards: Mapping[str, float]


def mean_name(part: str) -> str:
    """The name of a reward's mean in TRL's log."""
    return f"rewards/{part}/mean"


def intervals(history: Sequence[LogEntry], parts: Sequence[str] = ()) -> list[Interval]:
    """The evaluations of a run.

    Args:
        history: the trainer's log; evaluations are its entries with METRIC.
        parts: names of the rewards besides their sum.
    """
    names = {REWARD: REWARD} | {part: mean_name(part) for part in parts}
    found: list[Interval] = []
    logged: list[LogEntry] = []
    for entry in history:
        if METRIC in entry:
            found.append(Interval(int(entry["step"]), entry[METRIC], _means(logged, names)))
            logged = []
        elif REWARD in entry:
            logged.append(entry)
    return found


def _means(logged: Sequence[LogEntry], names: Mapping[str, str]) -> dict[str, float]:
    means = {}
    for name, key in names.items():
        # TRL logs None for a reward that applied to no completion.
        values = [value for entry in logged if (value := entry.get(key)) is not None and math.isfinite(value)]
        if values:
            means[name] = sum(values) / len(values)
    return means


def divergence(found: Sequence[Interval]) -> Interval | None:
    """The best evaluation, if the mIoU has fallen below it by DROP or more while the reward is higher than then.

    An evaluation before the first step has no rewards; those of the first steps stand for it.
    """
    *before, last = found
    if not before or REWARD not in last.rewards:
        return None
    best = max(before, key=lambda one: one.miou)
    reward = best.rewards.get(REWARD)
    if reward is None:
        later = [one.rewards[REWARD] for one in before if REWARD in one.rewards]
        reward = later[0] if later else None
    if reward is None or last.miou > best.miou - DROP or last.rewards[REWARD] <= reward:
        return None
    return best._replace(rewards={REWARD: reward})


def warning(history: Sequence[LogEntry]) -> str:
    """A sentence about the last evaluation, if the reward rose while the mIoU fell since the best one; else empty."""
    found = intervals(history)
    best = divergence(found)
    if best is None:
        return ""
    last = found[-1]
    return (
        f"warning: since step {best.step} the reward rose from {best.rewards[REWARD]:.3f} to "
        f"{last.rewards[REWARD]:.3f}, but the held-out mIoU fell from {best.miou:.3f} to {last.miou:.3f}: the run "
        "overfits or exploits its rewards; best/ holds the adapter of the highest mIoU."
    )


def diverged_at(history: Sequence[LogEntry]) -> list[int]:
    """The steps of all evaluations that gave a warning."""
    found = intervals(history)
    return [found[count - 1].step for count in range(1, len(found) + 1) if divergence(found[:count])]


def chart(history: Sequence[LogEntry], weights: Mapping[str, float]) -> LineChart:
    """The held-out mIoU, the reward as a fraction of its largest value, and each part of it, by evaluation.

    Args:
        history: the trainer's log.
        weights: of the parts, by name.
    """
    found = intervals(history, list(weights))
    largest = most(weights)
    values = [one.rewards.get(REWARD) for one in found]
    shares = [None if value is None or not largest else value / largest for value in values]
    # Later curves are drawn above earlier ones.
    parts = [*(part for part in weights if part != IOU), IOU]
    curves = {part: [one.rewards.get(part) for one in found] for part in parts}
    curves = {f"reward / {largest:g}": shares} | curves | {"held-out mIoU": [one.miou for one in found]}
    every = -(-len(found) // LABELS)
    return LineChart(
        title="Mean rewards since the evaluation before, and held-out mIoU",
        axis="step",
        labels=[str(one.step) if number % every == 0 else "" for number, one in enumerate(found)],
        curves=[Curve(name, color, of) for (name, of), color in zip(curves.items(), COLORS, strict=True)],
    )


def most(weights: Mapping[str, float]) -> float:
    """The largest reward of a completion: one click with an IoU of 1, or a correct answer without clicks."""
    return weights["format"] + max(weights[IOU] + weights["economy"], weights["no_target"])


def write(output: Path, history: Sequence[LogEntry], weights: Mapping[str, float]) -> None:
    """Write the picture to a run's folder, whose card shows it; arguments as in `chart`."""
    with files.whole(output / card.REWARDS) as partial:
        Image.fromarray(line_chart.png([chart(history, weights)], columns=1)).save(partial, format="PNG")
