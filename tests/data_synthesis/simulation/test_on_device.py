"""What is worked out for all masks at once equals what is worked out one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoclick.clicks import Click
from geoclick.data_synthesis.simulation import on_device
from geoclick.data_synthesis.simulation.policies import Clicker, propose
from geoclick.masks import iou
from geoclick.segmenters.center_rule import next_click

SIZES = [(9, 14), (20, 8), (1, 1)]


def drawn(seed, count):
    """Targets, predictions, valid pixels (or None) and clicks made, of a few sizes."""
    random = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        height, width = SIZES[random.integers(len(SIZES))]
        target, mask, valid = random.random((3, height, width)) < random.choice([0.1, 0.5, 0.9], (3, 1, 1))
        clicks = [
            Click(int(random.integers(width)), int(random.integers(height)), bool(random.integers(2)))
            for _ in range(random.integers(4))
        ]
        cases.append((target, mask, valid if random.random() < 0.5 else None, tuple(clicks)))
    return zip(*cases, strict=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from([30, 10**6]))
def test_clicks_are_those_of_the_rule(seed, count, pixels):
    targets, masks, valids, clicked = drawn(seed, count)
    together = on_device.Targets(targets, valids, torch.device("cpu"))
    planes = [torch.from_numpy(mask) for mask in masks]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_device, "PIXELS", pixels)
        for tie in ("negative", "positive"):
            clicks = together.center_clicks(range(count), planes, clicked, tie)
            for case, click in zip(zip(targets, masks, clicked, valids, strict=True), clicks, strict=True):
                assert [click] * (click is not None) == propose(Clicker(tie=tie), *case, None)
                if tie == "negative":
                    assert click == next_click(*case)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_ious_are_the_same_numbers(seed, count):
    targets, masks, valids, _ = drawn(seed, count)
    together = on_device.Targets(targets, valids, torch.device("cpu"))
    # Several masks of one target, and not in order.
    order = [*range(count), 0]
    found = together.ious(order, [torch.from_numpy(masks[i]) for i in order])
    assert found == [iou(masks[i], targets[i], valids[i]) for i in order]
