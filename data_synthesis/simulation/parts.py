"""Targets of several parts: each part is a prompt of its own, and the mask is the union.

One prompt of SAM segments one object. A target of several objects, such as all storage tanks of an image, is cut into
connected components; each is clicked on by itself, with the pixels of the others not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geoclick.clicks import ClickSequence
from geoclick.data_synthesis.simulation.part_rules import DEFAULT_ORDER, Order
from geoclick.data_synthesis.simulation.simulate import Simulated
from geoclick.masks import iou


@dataclass(frozen=True)
class Parted:
    """A sequence in parts.

    Attributes:
        clicks: of all parts in order.
        ious: the IoU of the union of the masks with the target after each click.
        parts: number of clicks of each part; one number for a single prompt, none without clicks.
        mask: the union after the last click, bool [H, W].
        useless_parts: number of parts that are left out, since no click of them raises the IoU of the union.
        useless_clicks: number of clicks that are cut from the ends of the other parts for the same reason.
    """

    clicks: ClickSequence
    ious: tuple[float, ...]
    parts: tuple[int, ...]
    mask: np.ndarray
    useless_parts: int = 0
    useless_clicks: int = 0


def whole(result: Simulated) -> Parted:
    """A sequence of one prompt."""
    return Parted(result.clicks, result.ious, (len(result.clicks),) if result.clicks else (), result.mask)


def united(
    results: Sequence[Simulated],
    target: np.ndarray,
    valid: np.ndarray | None,
    order: Order = DEFAULT_ORDER,
) -> Parted:
    """The sequences of the parts of one target, one after another.

    In the order of the answer, each part ends with the click after which the union has its best IoU, and a part that
    raises nothing is left out; then so is every part without which the union is as good.

    Args:
        results: of the parts, the largest first, with the masks after each click.
        target: the whole target, bool [H, W].
        valid: the pixels that count, bool [H, W]; None if all do.
        order: of the parts in the answer.
    """
    sequences = ordered([result for result in results if result.clicks], order)
    union, best, ends = np.zeros(target.shape, bool), 0.0, list[int]()
    for one in sequences:
        ious = [best, *(iou(union | mask, target, valid) for mask in one.masks)]
        best = max(ious)
        ends.append(ious.index(best))
        union = union | one.masks[ends[-1] - 1] if ends[-1] else union
    useful = _needed([(one, end) for one, end in zip(sequences, ends, strict=True) if end], target, valid)
    after, union = list[float](), np.zeros(target.shape, bool)
    for one, end in useful:
        after += [iou(union | mask, target, valid) for mask in one.masks[:end]]
        union = union | one.masks[end - 1]
    return Parted(
        clicks=tuple(click for one, end in useful for click in one.clicks[:end]),
        ious=tuple(after),
        parts=tuple(end for _, end in useful),
        mask=union,
        useless_parts=len(results) - len(useful),
        useless_clicks=sum(len(one.clicks) - end for one, end in useful),
    )


def ordered(results: Sequence[Simulated], order: Order) -> list[Simulated]:
    """The sequences of parts, the largest first, in the order of the answer; each has a click."""
    if order == "size":
        return list(results)
    return sorted(results, key=lambda one: (one.clicks[0].x, one.clicks[0].y))


def _needed(
    parts: Sequence[tuple[Simulated, int]], target: np.ndarray, valid: np.ndarray | None
) -> list[tuple[Simulated, int]]:
    """Parts, each with its number of clicks, without those that later ones made superfluous."""
    masks = [one.masks[end - 1] for one, end in parts]
    times = np.zeros(target.shape, np.uint8)
    for mask in masks:
        times += mask
    best, needed = iou(times > 0, target, valid), list[tuple[Simulated, int]]()
    for part, mask in zip(parts, masks, strict=True):
        without = times - mask
        if iou(without > 0, target, valid) >= best:
            times, best = without, iou(without > 0, target, valid)
        else:
            needed.append(part)
    return needed


def choose(one: Parted, parts: Parted, iou_target: float) -> Parted:
    """One prompt where it reaches `iou_target` with no more clicks or a better IoU than the parts, else the parts."""
    best_one, best_parts = max(one.ious, default=0.0), max(parts.ious, default=0.0)
    enough = best_one >= iou_target and len(one.clicks) <= len(parts.clicks)
    return one if enough or best_one >= best_parts else parts
