"""Masks to click sequences: a simulated annotator corrects a frozen segmenter, click by click."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_synthesis.next_click import next_click
from geoclick.clicks import Click, ClickSequence
from geoclick.masks import iou
from geoclick.segmenters.base import Embedding, Segmenter
from geoclick.segmenters.clicking import Clicking, Policy


@dataclass(frozen=True)
class Simulated:
    """One sequence and how well it does.

    Attributes:
        clicks: the clicks in order; empty when the target is.
        ious: the IoU with the target after each click.
        mask: the prediction after the last click, bool [H, W].
    """

    clicks: ClickSequence
    ious: tuple[float, ...]
    mask: np.ndarray


def simulate(
    segmenter: Segmenter,
    embeddings: Sequence[Embedding],
    targets: Sequence[np.ndarray],
    valids: Sequence[np.ndarray | None] | None = None,
    *,
    max_clicks: int = 6,
    iou_target: float = 0.9,
    policy: Policy | None = None,
) -> list[Simulated]:
    """Click on a batch of masks until each reaches the IoU target, has all its clicks or is beyond help.

    The first prediction is empty, so that the first click is positive and in the centre of the target. The
    sequences are decoded together; they share nothing else, so that batching changes rounding only.

    Args:
        segmenter: decodes the clicks.
        embeddings: the image of each target; targets of one image share one embedding.
        targets: bool [H, W] each, at the size of their image.
        valids: the pixels that count, bool [H, W] or None, for each target; None when all count everywhere.
        max_clicks: clicks that a sequence has at most.
        iou_target: the IoU at which a sequence ends.
        policy: how the segmenter is prompted; None takes its default.

    Returns:
        One result for each target, in order.

    Source:
        The loop of RITM's evaluation (Sofiiuk et al., 2021).
    """
    valids = valids or [None] * len(targets)
    state = Clicking(segmenter, embeddings, policy or Policy())
    clicks: list[list[Click]] = [[] for _ in targets]
    ious: list[list[float]] = [[] for _ in targets]
    active = list(range(len(targets)))
    for _ in range(max_clicks):
        step: list[Click | None] = [None] * len(targets)
        for i in active:
            step[i] = next_click(targets[i], state.masks[i], clicks[i], valids[i])
        active = [i for i in active if step[i] is not None]
        if not active:
            break
        state.step(step)
        for i in active:
            clicks[i].append(step[i])
            ious[i].append(iou(state.masks[i], targets[i], valids[i]))
        active = [i for i in active if ious[i][-1] < iou_target]
    return [Simulated(tuple(c), tuple(s), m) for c, s, m in zip(clicks, ious, state.masks, strict=True)]
