"""Masks to click sequences: a simulated annotator corrects a frozen segmenter, click by click."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from geoclick.clicks import Click, ClickSequence
from geoclick.data_synthesis.simulation import on_device
from geoclick.data_synthesis.simulation.on_device import Targets
from geoclick.data_synthesis.simulation.policies import Clicker, click_rng, propose
from geoclick.masks import iou
from geoclick.segmenters.base import Embedding, Segmenter
from geoclick.segmenters.clicking import Attempt, Clicking, Prompting


@dataclass(frozen=True)
class Simulated:
    """One sequence and its IoUs.

    Attributes:
        clicks: the clicks in order, without those that the sequence began with; empty if the target is, or if no first
            click improved the mask.
        ious: the IoU with the target after each click.
        mask: the prediction after the last click, bool [H, W].
        masks: the prediction after each click, if they were asked for.
    """

    clicks: ClickSequence
    ious: tuple[float, ...]
    mask: np.ndarray
    masks: tuple[np.ndarray, ...] = ()


def simulate(
    segmenter: Segmenter,
    embeddings: Sequence[Embedding],
    targets: Sequence[np.ndarray],
    valids: Sequence[np.ndarray | None] | None = None,
    *,
    max_clicks: int = 6,
    iou_target: float = 0.9,
    prompting: Prompting | None = None,
    clicker: Clicker | None = None,
    seed: int = 0,
    sequence_ids: Sequence[tuple[str, int]] | None = None,
    all_masks: bool = False,
    given: Sequence[ClickSequence] | None = None,
) -> list[Simulated]:
    """Click on a batch of masks until each reaches the IoU target, has all its clicks or cannot be improved.

    The first prediction is empty, so that the first click is positive and, by the center rule, in the center of
    the target. The sequences are decoded together and are independent otherwise: batching changes rounding only.
    The candidates of `lookahead` are decoded together too, and the one with the best IoU is used.

    Args:
        segmenter: decodes the clicks.
        embeddings: the image of each target; targets of one image share one embedding.
        targets: bool [H, W] each, at the size of their image.
        valids: the pixels that count, bool [H, W] or None for all, for each target; None if all count everywhere.
        max_clicks: largest number of clicks of a sequence.
        iou_target: IoU at which a sequence ends.
        prompting: how the segmenter is prompted; the default if None.
        clicker: where the clicks go; the center rule if None. With `keep_improving`, the first click that does not
            raise the IoU is dropped, the mask before it stays, and the sequence ends.
        seed: random seed.
        sequence_ids: for each target its sample and the number of the sequence, which seed its random choices together
            with `seed`; None uses the positions in `targets`.
        all_masks: return the mask after each click, not the last one only.
        given: the first clicks of each sequence, such as those of a model; they count for `max_clicks`.

    Returns:
        One result for each target, in order.

    Source:
        The loop of RITM's evaluation (Sofiiuk et al., 2021); `keep_improving` is SegAgent's rule.
    """
    valids = valids or [None] * len(targets)
    ids = sequence_ids or [(str(i), 1) for i in range(len(targets))]
    clicker = clicker or Clicker()
    state = Clicking(segmenter, embeddings, prompting or Prompting())
    together = Targets(targets, valids, segmenter.device) if on_device.is_faster(segmenter.device) else None
    ious: list[list[float]] = [[] for _ in targets]
    masks: list[list[np.ndarray]] = [[] for _ in targets]
    given = given or [()] * len(targets)
    before = _begin(state, given, targets, valids)
    active = [i for i, reached in enumerate(before) if reached < iou_target]
    for turn in range(max_clicks):
        active = [i for i in active if len(state.sequences[i]) < max_clicks]
        if together and clicker.is_center:
            proposals = _centers(clicker, state, together, active)
        else:
            randoms = [
                click_rng(seed, *one, turn + len(first)) for one, first in zip(ids, given, strict=True)
            ]
            proposals = _proposals(clicker, state, targets, valids, active, randoms)
        attempts = state.attempt(proposals)
        taken: list[Attempt | None] = [None] * len(targets)
        for i, tried in enumerate(_ious(attempts, targets, valids, together)):
            best = max(tried, default=0.0)
            if tried and (not clicker.keep_improving or best > max(ious[i], default=before[i])):
                taken[i] = attempts[i][tried.index(best)]
                ious[i].append(best)
        state.take(taken)
        if all_masks:
            for own, attempt in zip(masks, taken, strict=True):
                own += [attempt.mask] if attempt else []
        active = [i for i in active if taken[i] is not None and ious[i][-1] < iou_target]
        if not active:
            break
    return [
        Simulated(sequence[len(first) :], tuple(s), mask, tuple(own))
        for sequence, first, s, mask, own in zip(
            state.sequences, given, ious, state.masks, masks, strict=True
        )
    ]


def _begin(
    state: Clicking,
    given: Sequence[ClickSequence],
    targets: Sequence[np.ndarray],
    valids: Sequence[np.ndarray | None],
) -> list[float]:
    """Make the first clicks of each sequence; returns the IoU after them, 0 where there are none: no mask yet."""
    for number in range(max(map(len, given), default=0)):
        state.step([clicks[number] if number < len(clicks) else None for clicks in given])
    return [
        iou(plane.cpu().numpy(), target, valid) if clicks else 0.0
        for plane, clicks, target, valid in zip(state.planes, given, targets, valids, strict=True)
    ]


def _centers(
    clicker: Clicker, state: Clicking, together: Targets, active: Sequence[int]
) -> list[list[Click]]:
    """The click of the center rule for each active sequence, computed on the device; none for the others."""
    planes, clicked = [state.planes[i] for i in active], [state.sequences[i] for i in active]
    proposals: list[list[Click]] = [[] for _ in state.sequences]
    for i, click in zip(active, together.center_clicks(active, planes, clicked, clicker.tie), strict=True):
        proposals[i] = [click] if click else []
    return proposals


def _proposals(
    clicker: Clicker,
    state: Clicking,
    targets: Sequence[np.ndarray],
    valids: Sequence[np.ndarray | None],
    active: Sequence[int],
    randoms: Sequence[np.random.Generator],
) -> list[list[Click]]:
    """The candidates for the next click of each active sequence, none for the others; on as many threads as torch."""

    def proposed(i: int) -> list[Click]:
        mask = state.planes[i].cpu().numpy()
        return propose(clicker, targets[i], mask, state.sequences[i], valids[i], randoms[i])

    proposals: list[list[Click]] = [[] for _ in targets]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for i, clicks in zip(active, threads.map(proposed, active), strict=True):
            proposals[i] = clicks
    return proposals


def _ious(
    attempts: Sequence[Sequence[Attempt]],
    targets: Sequence[np.ndarray],
    valids: Sequence[np.ndarray | None],
    together: Targets | None,
) -> list[list[float]]:
    """The IoU of each attempt with its target, on the device if that is faster."""
    if together is None:
        return [
            [iou(attempt.mask, target, valid) for attempt in tried]
            for tried, target, valid in zip(attempts, targets, valids, strict=True)
        ]
    which = [i for i, tried in enumerate(attempts) for _ in tried]
    ious = iter(together.ious(which, [attempt.plane for tried in attempts for attempt in tried]))
    return [[next(ious) for _ in tried] for tried in attempts]
