"""Where a simulated annotator clicks next: the policies by name, and the switches that they share.

All random choices come from the generator that is passed in. `draws` makes it of the seed, the sample, the number
of the sequence and the number of the click, so that batching, sharding and restarts change nothing.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from geoclick.clicks import Click
from geoclick.data_synthesis.simulation.next_click import next_click
from geoclick.distance import distance_transform

NEIGHBORS = np.ones((3, 3), bool)
"""Regions are connected through corners too."""


@dataclass(frozen=True)
class Clicker:
    """How a simulated annotator clicks.

    Attributes:
        policy: the name of the rule that proposes clicks, a key of POLICIES.
        tie: the sign of the click where what is missing and what is too much reach equally far.
        positive_only: click on what is missing only, as if there were no surplus.
        keep_improving: a click that does not raise the IoU above all before it is dropped and ends the sequence.
        jitter: pixels by which a click is moved at most, at random, within its own error region.
        candidates: clicks that `lookahead` tries at most in one step.
    """

    policy: Literal["center", "random", "robust", "lookahead"] = "center"
    tie: Literal["negative", "positive"] = "negative"
    positive_only: bool = False
    keep_improving: bool = False
    jitter: int = 0
    candidates: int = 6

    @property
    def rule(self) -> str:
        """The policy as it is recorded in rows, such as `centre` or `lookahead-6`."""
        recorded = {"center": "centre", "lookahead": f"lookahead-{self.candidates}"}
        return recorded.get(self.policy, self.policy)

    @property
    def switches(self) -> str:
        """The switches that differ from their defaults, for records, such as `+tie-positive+jitter-3`."""
        parts = {
            f"tie-{self.tie}": self.tie != "negative",
            "positive-only": self.positive_only,
            "keep-improving": self.keep_improving,
            f"jitter-{self.jitter}": self.jitter > 0,
        }
        return "".join(f"+{name}" for name, given in parts.items() if given)

    @property
    def is_center(self) -> bool:
        """Whether every click is that of the center rule, whatever its tie."""
        return self.policy == "center" and not self.jitter and not self.positive_only

    @property
    def is_random(self) -> bool:
        """Whether two sequences of one sample may differ."""
        samples = self.policy == "lookahead" and self.candidates > 1
        return samples or self.jitter > 0 or self.policy in ("random", "robust")


def draws(seed: int, sample_id: str, number: int, turn: int) -> np.random.Generator:
    """The random numbers of one click: click `turn` of sequence `number` of a sample."""
    digest = hashlib.sha256(json.dumps([seed, sample_id, number, turn]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest))


def propose(
    clicker: Clicker,
    target: np.ndarray,
    prediction: np.ndarray,
    clicked: Sequence[Click],
    valid: np.ndarray | None,
    random: np.random.Generator,
) -> list[Click]:
    """The clicks to choose from: one, or several different ones from a policy that looks ahead.

    Each lies on a mistake of its sign that counts and was not clicked before. The first one of `lookahead` is
    that of `center`.

    Args:
        clicker: the policy and its switches.
        target: the ground truth, bool [H, W].
        prediction: the mask so far, bool [H, W].
        clicked: the clicks made so far, in whole pixels.
        valid: bool [H, W], false where pixels do not count; None when all count.
        random: the random numbers of this click.

    Returns:
        Clicks in whole pixels; an empty list where nothing is left to click on.
    """
    if clicker.positive_only:
        prediction = prediction & target
    center = _corrective_click(clicker.tie, target, prediction, clicked, valid)
    if center is None:
        return []
    if clicker.policy == "center" and not clicker.jitter:
        return [center]
    mistakes = Mistakes.between(target, prediction, clicked, valid)
    clicks = POLICIES[clicker.policy](mistakes, center, clicker.candidates, random)
    if clicker.jitter:
        clicks = [_jittered(mistakes.open(c.positive), c, clicker.jitter, random) for c in clicks]
    return list(dict.fromkeys(clicks))


def _corrective_click(
    tie: str,
    target: np.ndarray,
    prediction: np.ndarray,
    clicked: Sequence[Click],
    valid: np.ndarray | None,
) -> Click | None:
    """`next_click`, with either sign at a tie."""
    if tie == "negative":
        return next_click(target, prediction, clicked, valid)
    # With the masks exchanged the rule gives a tie to the other side, and every sign is turned round.
    click = next_click(prediction, target, clicked, valid)
    return None if click is None else click._replace(positive=not click.positive)


@dataclass(frozen=True)
class Mistakes:
    """What is wrong with a prediction.

    Attributes:
        missed: target that is not predicted, where pixels count, bool [H, W].
        surplus: prediction that is not target, where pixels count, bool [H, W].
        free: the pixels that were not clicked, bool [H, W].
    """

    missed: np.ndarray
    surplus: np.ndarray
    free: np.ndarray

    @classmethod
    def between(
        cls, target: np.ndarray, prediction: np.ndarray, clicked: Sequence[Click], valid: np.ndarray | None
    ) -> "Mistakes":
        """The mistakes of a prediction; arguments as in `propose`."""
        missed, surplus = target & ~prediction, prediction & ~target
        if valid is not None:
            missed, surplus = missed & valid, surplus & valid
        free = np.ones(target.shape, bool)
        for click in clicked:
            free[click.y, click.x] = False
        return cls(missed, surplus, free)

    def open(self, positive: bool) -> np.ndarray:
        """The mistakes of one sign that were not clicked, bool [H, W]."""
        return (self.missed if positive else self.surplus) & self.free

    def distances(self, positive: bool) -> np.ndarray:
        """For each mistake of one sign how far it is from all others, 0 where it was clicked; float64 [H, W]."""
        return distance_transform(self.missed if positive else self.surplus) * self.free


Rule = Callable[[Mistakes, Click, int, np.random.Generator], list[Click]]
"""(the mistakes, the click of the center rule, clicks at most, random numbers) to the clicks to choose from."""


def _center(mistakes: Mistakes, center: Click, count: int, random: np.random.Generator) -> list[Click]:
    """The center rule as it is."""
    return [center]


def _random(mistakes: Mistakes, center: Click, count: int, random: np.random.Generator) -> list[Click]:
    """A mistake like any other: uniform over missed and surplus pixels together, so that area decides the sign.

    Source: the click sampling in the training of SAM 2 (Ravi et al., 2024).
    """
    missed = mistakes.open(True)
    return _sampled(missed, missed | mistakes.open(False), 1, random)


def _robust(mistakes: Mistakes, center: Click, count: int, random: np.random.Generator) -> list[Click]:
    """A pixel of the connected mistake that the center rule picks, as likely as it is far from its border.

    People aim at the same mistake as the rule but spread around its center (RClicks: Antonov et al., 2024), and
    center clicks flatter a segmenter for that. Sampling by the distance transform is that of Deepgrow (Sakinis et
    al., 2019); the weight here is the distance itself, so that in a disc half the clicks lie beyond half its radius.
    """
    distances = mistakes.distances(center.positive)
    region = mistakes.missed if center.positive else mistakes.surplus
    labels, _ = ndimage.label(region, NEIGHBORS)
    weights = distances * (labels == labels[center.y, center.x])
    return _sampled(np.full(weights.shape, center.positive), weights, 1, random)


def _lookahead(mistakes: Mistakes, center: Click, count: int, random: np.random.Generator) -> list[Click]:
    """The center rule's click, the centers of the other large regions of both signs, and sampled points.

    A third of the candidates is sampled, more where there are few regions: anywhere on a mistake, as likely as it
    is far from the mistake's border.
    """
    missed, surplus = mistakes.distances(True), mistakes.distances(False)
    regions = _region_centers(mistakes.missed, missed, True) + _region_centers(
        mistakes.surplus, surplus, False
    )
    centers = [click for _, click in sorted(regions, key=lambda region: -region[0])]
    clicks = list(dict.fromkeys([center, *centers]))[: count - count // 3]
    return clicks + _sampled(missed > 0, missed + surplus, count - len(clicks), random)


POLICIES: dict[str, Rule] = {
    "center": _center,
    "random": _random,
    "robust": _robust,
    "lookahead": _lookahead,
}


def _sampled(
    positive: np.ndarray, weights: np.ndarray, count: int, random: np.random.Generator
) -> list[Click]:
    """`count` pixels drawn by their weights [H, W], repeats among them, with the signs in `positive`, bool [H, W]."""
    pixels = np.flatnonzero(weights)
    reach = np.cumsum(weights.ravel()[pixels])
    # Rounding may carry a product up to the total, which lies beyond the last pixel.
    picks = np.searchsorted(reach, random.random(count) * reach[-1], side="right").clip(max=len(pixels) - 1)
    rows, columns = np.unravel_index(pixels[picks], weights.shape)
    return [Click(int(x), int(y), bool(positive[y, x])) for x, y in zip(columns, rows, strict=True)]


def _region_centers(region: np.ndarray, distances: np.ndarray, positive: bool) -> list[tuple[float, Click]]:
    """For each connected region its inscribed radius and the first pixel, in row-major order, at that distance."""
    labels, _ = ndimage.label(region, NEIGHBORS)
    found = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        inner = distances[box] * (labels[box] == label)
        row, column = np.unravel_index(inner.argmax(), inner.shape)
        # A region of which every pixel was clicked has no center left.
        if inner[row, column] > 0:
            click = Click(int(box[1].start + column), int(box[0].start + row), positive)
            found.append((float(inner[row, column]), click))
    return found


def _jittered(region: np.ndarray, click: Click, pixels: int, random: np.random.Generator) -> Click:
    """A pixel near a click, each as likely: at most `pixels` away and joined to it within that reach.

    Args:
        region: where clicks of its sign may be, bool [H, W].
        click: in the region.
        pixels: the largest Euclidean distance.
        random: the random numbers of this click.
    """
    top, left = max(click.y - pixels, 0), max(click.x - pixels, 0)
    near = region[top : click.y + pixels + 1, left : click.x + pixels + 1]
    ys, xs = np.ogrid[: near.shape[0], : near.shape[1]]
    row, column = click.y - top, click.x - left
    labels, _ = ndimage.label(near & ((ys - row) ** 2 + (xs - column) ** 2 <= pixels**2), NEIGHBORS)
    choices = np.argwhere(labels == labels[row, column])
    row, column = choices[int(random.random() * len(choices))]
    return click._replace(x=int(left + column), y=int(top + row))
