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
        given: number of first clicks that a model made itself.
    """

    clicks: ClickSequence
    ious: tuple[float, ...]
    parts: tuple[int, ...]
    mask: np.ndarray
    useless_parts: int = 0
    useless_clicks: int = 0
    given: int = 0


def whole(result: Simulated) -> Parted:
    """A sequence of one prompt."""
    return Parted(result.clicks, result.ious, (len(result.clicks),) if result.clicks else (), result.mask)


def united(
    results: Sequence[Simulated],
    target: np.ndarray,
    valid: np.ndarray | None,
    order: Order = DEFAULT_ORDER,
    base: np.ndarray | None = None,
) -> Parted:
    """The sequences of the parts of one target, one after another.

    Parts are taken one by one, each time the one with which the union has the best IoU with the whole target, until
    none raises it; then those that later ones made superfluous are dropped. Each ends with the click after which the
    union of all is best.

    Args:
        results: of the parts, the largest first, with the masks after each click.
        target: the whole target, bool [H, W].
        valid: the pixels that count, bool [H, W]; None if all do.
        order: of the parts in the answer.
        base: a mask that is united with those of the parts, bool [H, W], such as that of parts before them.
    """
    base = np.zeros(target.shape, bool) if base is None else base
    clicked = [result for result in results if result.clicks]
    useful = ordered(_needed(_chosen(clicked, target, valid, base), target, valid, base), order)
    ends = [_best(one) for one in useful]
    for number, one in enumerate(useful):
        others = base.copy()
        for i, (other, end) in enumerate(zip(useful, ends, strict=True)):
            if i != number:
                others |= other.masks[end - 1]
        ious = [iou(others | mask, target, valid) for mask in one.masks]
        ends[number] = ious.index(max(ious)) + 1
    after, union = list[float](), base
    for one, end in zip(useful, ends, strict=True):
        after += [iou(union | mask, target, valid) for mask in one.masks[:end]]
        union = union | one.masks[end - 1]
    return Parted(
        clicks=tuple(click for one, end in zip(useful, ends, strict=True) for click in one.clicks[:end]),
        ious=tuple(after),
        parts=tuple(ends),
        mask=union,
        useless_parts=len(results) - len(useful),
        useless_clicks=sum(len(one.clicks) - end for one, end in zip(useful, ends, strict=True)),
    )


def _best(one: Simulated) -> int:
    """The number of clicks of a part after which its own IoU is best."""
    return one.ious.index(max(one.ious)) + 1


def _chosen(
    parts: Sequence[Simulated], target: np.ndarray, valid: np.ndarray | None, base: np.ndarray
) -> list[Simulated]:
    """The parts that raise the IoU of the union, by how much they do, the largest first among equal ones."""
    left, chosen = list(parts), list[Simulated]()
    union, best = base, iou(base, target, valid)
    while left:
        ious = [iou(union | one.masks[_best(one) - 1], target, valid) for one in left]
        if max(ious) <= best:
            break
        best = max(ious)
        chosen.append(left.pop(ious.index(best)))
        union = union | chosen[-1].masks[_best(chosen[-1]) - 1]
    return [one for one in parts if any(one is other for other in chosen)]


def ordered(results: Sequence[Simulated], order: Order) -> list[Simulated]:
    """The sequences of parts, the largest first, in the order of the answer; each has a click."""
    if order == "size":
        return list(results)
    return sorted(results, key=lambda one: (one.clicks[0].x, one.clicks[0].y))


def _needed(
    parts: Sequence[Simulated], target: np.ndarray, valid: np.ndarray | None, base: np.ndarray
) -> list[Simulated]:
    """Parts without those that the others made superfluous."""
    times, needed = base.astype(np.uint8), list[Simulated]()
    for one in parts:
        times += one.masks[_best(one) - 1]
    best = iou(times > 0, target, valid)
    for one in parts:
        without = times - one.masks[_best(one) - 1]
        if (found := iou(without > 0, target, valid)) >= best:
            times, best = without, found
        else:
            needed.append(one)
    return needed


def choose(one: Parted, parts: Parted, iou_target: float) -> Parted:
    """One prompt where it reaches `iou_target` with no more clicks or a better IoU than the parts, else the parts."""
    best_one, best_parts = max(one.ious, default=0.0), max(parts.ious, default=0.0)
    enough = best_one >= iou_target and len(one.clicks) <= len(parts.clicks)
    return one if enough or best_one >= best_parts else parts
