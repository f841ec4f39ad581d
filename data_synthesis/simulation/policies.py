"""Where a simulated annotator clicks next: the click policies by name, and the switches that they share.

All random choices come from the generator that is passed in. `click_rng` seeds it by the seed, the sample, the number
of the sequence and the number of the click, so that batching, sharding and restarts change nothing.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from geoclick.clicks import Click
from geoclick.distance import distance_transform
from geoclick.segmenters.center_rule import next_click

NEIGHBORS = np.ones((3, 3), bool)
"""Regions are 8-connected."""

Tie = Literal["negative", "positive"]


@dataclass(frozen=True)
class Clicker:
    """How a simulated annotator clicks.

    Attributes:
        policy: name of the click policy, a key of POLICIES.
        tie: sign of the click if the missed and the surplus region are equally deep.
        positive_only: click on missed pixels only, as if there were no surplus.
        keep_improving: drop the first click that does not raise the IoU above all earlier ones, and end the sequence.
        jitter: largest distance in pixels by which a click is moved at random, within its error region.
        candidates: largest number of clicks that `lookahead` tries in one step.
    """

    policy: str = "center"
    tie: Tie = "negative"
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
        """Whether every click is that of the center rule, with either tie."""
        return self.policy == "center" and not self.jitter and not self.positive_only

    @property
    def is_random(self) -> bool:
        """Whether two sequences of one sample may differ."""
        samples = self.policy == "lookahead" and self.candidates > 1
        return samples or self.jitter > 0 or self.policy in ("random", "robust")


def click_rng(seed: int, sample_id: str, number: int, turn: int) -> np.random.Generator:
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
    """The candidates for the next click: one, or several different ones from `lookahead`.

    Each lies on a wrong pixel of its sign that counts and was not clicked before. The first candidate of `lookahead` is
    the click of `center`.

    Args:
        clicker: the policy and its switches.
        target: the ground truth, bool [H, W].
        prediction: the mask so far, bool [H, W].
        clicked: the clicks so far, in whole pixels.
        valid: bool [H, W], false where pixels do not count; None if all count.
        random: the random numbers of this click.

    Returns:
        Clicks in whole pixels; an empty list if no pixel is left to click on.
    """
    if clicker.positive_only:
        prediction = prediction & target
    center = _corrective_click(clicker.tie, target, prediction, clicked, valid)
    if center is None:
        return []
    if clicker.policy == "center" and not clicker.jitter:
        return [center]
    errors = ErrorRegions.between(target, prediction, clicked, valid)
    clicks = POLICIES[clicker.policy](errors, center, clicker.candidates, random)
    if clicker.jitter:
        clicks = [_jittered(errors.unclicked(c.positive), c, clicker.jitter, random) for c in clicks]
    return list(dict.fromkeys(clicks))


def _corrective_click(
    tie: Tie,
    target: np.ndarray,
    prediction: np.ndarray,
    clicked: Sequence[Click],
    valid: np.ndarray | None,
) -> Click | None:
    """`next_click`, with either sign at a tie."""
    if tie == "negative":
        return next_click(target, prediction, clicked, valid)
    # With the masks exchanged, the rule prefers the other sign at a tie, and every sign is reversed.
    click = next_click(prediction, target, clicked, valid)
    return None if click is None else click._replace(positive=not click.positive)


@dataclass(frozen=True)
class ErrorRegions:
    """The wrong pixels of a prediction.

    Attributes:
        missed: target that is not predicted, where pixels count, bool [H, W].
        surplus: prediction that is not target, where pixels count, bool [H, W].
        free: pixels that were not clicked, bool [H, W].
    """

    missed: np.ndarray
    surplus: np.ndarray
    free: np.ndarray

    @classmethod
    def between(
        cls, target: np.ndarray, prediction: np.ndarray, clicked: Sequence[Click], valid: np.ndarray | None
    ) -> "ErrorRegions":
        """The error regions of a prediction; arguments as in `propose`."""
        missed, surplus = target & ~prediction, prediction & ~target
        if valid is not None:
            missed, surplus = missed & valid, surplus & valid
        free = np.ones(target.shape, bool)
        for click in clicked:
            free[round(click.y), round(click.x)] = False
        return cls(missed, surplus, free)

    def unclicked(self, positive: bool) -> np.ndarray:
        """The wrong pixels of one sign that were not clicked, bool [H, W]."""
        return (self.missed if positive else self.surplus) & self.free

    def distances(self, positive: bool) -> np.ndarray:
        """For each wrong pixel of one sign its distance to the border of the region, 0 if clicked; float64 [H, W]."""
        return distance_transform(self.missed if positive else self.surplus) * self.free


Rule = Callable[[ErrorRegions, Click, int, np.random.Generator], list[Click]]
"""(error regions, click of the center rule, number of candidates, random numbers) to the candidates."""


def _center(errors: ErrorRegions, center: Click, count: int, random: np.random.Generator) -> list[Click]:
    """The click of the center rule."""
    return [center]


def _random(errors: ErrorRegions, center: Click, count: int, random: np.random.Generator) -> list[Click]:
    """A wrong pixel, uniform over missed and surplus pixels together, so that the area decides the sign.

    Source: the click sampling in the training of SAM 2 (Ravi et al., 2024).
    """
    missed = errors.unclicked(True)
    return _sampled(missed, missed | errors.unclicked(False), 1, random)


def _robust(errors: ErrorRegions, center: Click, count: int, random: np.random.Generator) -> list[Click]:
    """A pixel of the connected region that the center rule picks, weighted by its distance to the border.

    People click in the same region as the rule, but spread around its center, and center clicks overestimate a
    segmenter (RClicks: Antonov et al., 2024). Deepgrow (Sakinis et al., 2019) samples by the distance transform too.
    The weight here is the distance itself, so that in a disc half of the clicks lie beyond half its radius.
    """
    distances = errors.distances(center.positive)
    labels = _connected(errors.missed if center.positive else errors.surplus)
    weights = distances * (labels == labels[int(center.y), int(center.x)])
    return _sampled(np.full(weights.shape, center.positive), weights, 1, random)


def _lookahead(errors: ErrorRegions, center: Click, count: int, random: np.random.Generator) -> list[Click]:
    """The center rule's click, the centers of the other large regions of both signs, and sampled pixels.

    A third of the candidates is sampled, more if there are few regions: wrong pixels, weighted by their distance to the
    border of the region.
    """
    missed, surplus = errors.distances(True), errors.distances(False)
    regions = _region_centers(errors.missed, missed, True) + _region_centers(errors.surplus, surplus, False)
    centers = [click for _, click in sorted(regions, key=lambda region: -region[0])]
    clicks = list(dict.fromkeys([center, *centers]))[: count - count // 3]
    return clicks + _sampled(missed > 0, missed + surplus, count - len(clicks), random)


POLICIES: dict[str, Rule] = {
    "center": _center,
    "random": _random,
    "robust": _robust,
    "lookahead": _lookahead,
}


def _connected(region: np.ndarray) -> np.ndarray:
    """The connected components of a mask, bool [H, W] -> int [H, W], numbered from 1; 0 outside."""
    # Imported here, since `geoclick synth --help` needs only the names of the policies.
    from scipy import ndimage

    return ndimage.label(region, NEIGHBORS)[0]


def _sampled(
    positive: np.ndarray, weights: np.ndarray, count: int, random: np.random.Generator
) -> list[Click]:
    """`count` pixels sampled by their weights [H, W], with replacement; `positive` bool [H, W] gives the signs."""
    pixels = np.flatnonzero(weights)
    cumulative = np.cumsum(weights.ravel()[pixels])
    # Rounding may raise a product to the total, which lies beyond the last pixel.
    picks = np.searchsorted(cumulative, random.random(count) * cumulative[-1], side="right")
    picks = picks.clip(max=len(pixels) - 1)
    rows, columns = np.unravel_index(pixels[picks], weights.shape)
    return [Click(int(x), int(y), bool(positive[y, x])) for x, y in zip(columns, rows, strict=True)]


def _region_centers(region: np.ndarray, distances: np.ndarray, positive: bool) -> list[tuple[float, Click]]:
    """For each connected region its inscribed radius and the first pixel, in row-major order, at that distance."""
    from scipy import ndimage

    labels = _connected(region)
    centers = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        inner = distances[box] * (labels[box] == label)
        row, column = np.unravel_index(inner.argmax(), inner.shape)
        # A region whose pixels were all clicked has no center left.
        if inner[row, column] > 0:
            click = Click(int(box[1].start + column), int(box[0].start + row), positive)
            centers.append((float(inner[row, column]), click))
    return centers


def _jittered(region: np.ndarray, click: Click, pixels: int, random: np.random.Generator) -> Click:
    """A pixel near a click, uniform over those at most `pixels` away that are connected to it within that disc.

    Args:
        region: where clicks of its sign are allowed, bool [H, W].
        click: in the region.
        pixels: the largest Euclidean distance.
        random: the random numbers of this click.
    """
    x, y = int(click.x), int(click.y)
    top, left = max(y - pixels, 0), max(x - pixels, 0)
    near = region[top : y + pixels + 1, left : x + pixels + 1]
    ys, xs = np.ogrid[: near.shape[0], : near.shape[1]]
    row, column = y - top, x - left
    labels = _connected(near & ((ys - row) ** 2 + (xs - column) ** 2 <= pixels**2))
    choices = np.argwhere(labels == labels[row, column])
    row, column = choices[int(random.random() * len(choices))]
    return click._replace(x=int(left + column), y=int(top + row))
