"""Targets of several parts: each part is a prompt of its own, and the mask is the union.

One prompt of SAM segments one object. A target of several objects, such as all storage tanks of an image, is cut into
connected components; each is clicked on by itself, with the pixels of the others not counted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geoclick.clicks import Click, ClickSequence
from geoclick.data_synthesis.simulation.part_rules import MAX_PARTS, PartRules
from geoclick.data_synthesis.simulation.policies import NEIGHBORS
from geoclick.data_synthesis.simulation.simulate import Simulated
from geoclick.masks import bounding_box, iou


@dataclass(frozen=True)
class Cut:
    """A target in parts.

    Attributes:
        parts: bool [H, W] each, the largest first, at most MAX_PARTS.
        joined: number of components that are joined to others.
        small: number of parts that are left out since they are small.
        beyond: number of parts that are left out since there are too many.
    """

    parts: list[np.ndarray]
    joined: int = 0
    small: int = 0
    beyond: int = 0

    @property
    def is_smaller(self) -> bool:
        """Whether no part is the whole target."""
        return len(self.parts) > 1 or self.small > 0


def cut(target: np.ndarray, rules: PartRules) -> Cut:
    """The parts of a target, bool [H, W] with at least one pixel; components are 8-connected."""
    from scipy import ndimage

    components = ndimage.label(target, NEIGHBORS)[1]
    if components == 1:
        return Cut([target])
    labels = np.zeros(target.shape, np.int32)
    rows, columns = (grown(side, rules.distance) for side in bounding_box(target) or ())
    box = target[rows, columns]
    near = ndimage.distance_transform_edt(~box) <= rules.distance / 2
    labels[rows, columns], count = ndimage.label(near, NEIGHBORS)
    areas = np.bincount(labels[target], minlength=count + 1)[1:]
    order = sorted(range(count), key=lambda i: (-areas[i], i))
    large = [i for i in order if areas[i] >= rules.area] or order[:1]
    parts = [target & (labels == i + 1) for i in large[:MAX_PARTS]]
    return Cut(parts, components - count, count - len(large), max(0, len(large) - MAX_PARTS))


def grown(side: slice, distance: float) -> slice:
    """A side of a box with some pixels more on both ends."""
    return slice(max(0, side.start - math.ceil(distance)), side.stop + math.ceil(distance))


@dataclass(frozen=True)
class Parted:
    """A sequence in parts.

    Attributes:
        clicks: of all parts in order.
        ious: the IoU of the union of the masks with the target after each click.
        parts: number of clicks of each part; one number for a single prompt, none without clicks.
        mask: the union after the last click, bool [H, W].
    """

    clicks: ClickSequence
    ious: tuple[float, ...]
    parts: tuple[int, ...]
    mask: np.ndarray


def whole(result: Simulated) -> Parted:
    """A sequence of one prompt."""
    return Parted(result.clicks, result.ious, (len(result.clicks),) if result.clicks else (), result.mask)


def united(results: Sequence[Simulated], target: np.ndarray, valid: np.ndarray | None) -> Parted:
    """The sequences of the parts of one target, one after another; parts without clicks are left out.

    Each ends with its best click: later ones could not be cut off when the answer is cut.

    Args:
        results: of the parts, with the masks after each click.
        target: the whole target, bool [H, W].
        valid: the pixels that count, bool [H, W]; None if all do.
    """
    union, clicks, ious, lengths = np.zeros(target.shape, bool), list[Click](), list[float](), list[int]()
    for result in results:
        if result.clicks:
            end = result.ious.index(max(result.ious)) + 1
            clicks += result.clicks[:end]
            ious += [iou(union | mask, target, valid) for mask in result.masks[:end]]
            lengths.append(end)
            union = union | result.masks[end - 1]
    return Parted(tuple(clicks), tuple(ious), tuple(lengths), union)


def choose(one: Parted, parts: Parted, iou_target: float) -> Parted:
    """One prompt where it reaches `iou_target` with no more clicks or a better IoU than the parts, else the parts."""
    best_one, best_parts = max(one.ious, default=0.0), max(parts.ious, default=0.0)
    enough = best_one >= iou_target and len(one.clicks) <= len(parts.clicks)
    return one if enough or best_one >= best_parts else parts
