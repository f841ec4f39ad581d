"""The center rule and the IoU for many masks at once, on the GPU that holds them: only clicks and numbers leave it.

On a CPU the functions for one mask are faster, since they process the bounding box of the errors only.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from geoclick.clicks import Click, ClickSequence
from geoclick.distance import squared_distances

PIXELS = 2**26
"""Largest number of pixels processed at once; each takes about 40 bytes of memory."""


def is_faster(device: torch.device) -> bool:
    """Whether a device is faster with all masks together than the CPU is with one after another."""
    return device.type != "cpu"


class Targets:
    """Ground truth on a device, to be compared with predictions on the same device.

    Args:
        targets: bool [H, W] each; sizes may differ.
        valids: the pixels that count, bool [H, W] or None for all, for each target.
        device: that of the predictions.
    """

    def __init__(
        self, targets: Sequence[np.ndarray], valids: Sequence[np.ndarray | None], device: torch.device
    ) -> None:
        self._targets = [torch.from_numpy(target).to(device) for target in targets]
        self._valids = [None if valid is None else torch.from_numpy(valid).to(device) for valid in valids]

    def ious(self, which: Sequence[int], masks: Sequence[Tensor]) -> list[float]:
        """IoU of `masks[j]`, bool [H, W], with target `which[j]`, for all j; 1.0 where both are empty."""
        ious = [0.0] * len(which)
        for places, target, mask, valid in self._batches(which, masks):
            counts = [(part & valid).sum((1, 2)) for part in (target & mask, target | mask)]
            for j, intersection, union in zip(places, *torch.stack(counts).tolist(), strict=True):
                ious[j] = intersection / union if union else 1.0
        return ious

    def center_clicks(
        self, which: Sequence[int], masks: Sequence[Tensor], clicked: Sequence[ClickSequence], tie: str
    ) -> list[Click | None]:
        """The click of the center rule that corrects `masks[j]`, for all j; see next_click.py.

        Args:
            which: the target of each mask.
            masks: bool [H, W] each.
            clicked: the clicks so far; the pixels that they lie in are not clicked again.
            tie: sign of the click at a tie, positive or negative.
        """
        clicks: list[Click | None] = [None] * len(which)
        for places, target, mask, valid in self._batches(which, masks):
            # bool [n, 2, H, W]: missed and surplus pixels.
            errors = torch.stack([target & ~mask & valid, mask & ~target & valid], dim=1)
            depths = squared_distances(errors.flatten(0, 1)).reshape(errors.shape)
            made = [(row, round(c.y), round(c.x)) for row, j in enumerate(places) for c in clicked[j]]
            if made:
                rows, ys, xs = torch.tensor(made, device=depths.device).T
                depths[rows, :, ys, xs] = 0
            deepest = depths.amax((2, 3))
            # The first pixel in row-major order at the maximum: torch does not specify which one argmax returns.
            at_maximum = (depths == deepest[..., None, None]).flatten(2)
            numbers = torch.arange(at_maximum.shape[-1], 0, -1, device=depths.device, dtype=torch.int32)
            first = at_maximum.shape[-1] - (at_maximum * numbers).amax(-1)
            for j, depth, pixel in zip(places, deepest.tolist(), first.tolist(), strict=True):
                if max(depth):
                    positive = depth[0] > depth[1] or (depth[0] == depth[1] and tie == "positive")
                    y, x = divmod(pixel[0 if positive else 1], target.shape[-1])
                    clicks[j] = Click(x, y, positive)
        return clicks

    def _batches(
        self, which: Sequence[int], masks: Sequence[Tensor]
    ) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
        """Places in `which`, with their targets, masks and valid pixels bool [n, H, W], grouped by size."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for j, mask in enumerate(masks):
            groups[tuple(mask.shape)].append(j)
        for (height, width), group in groups.items():
            at_once = max(1, PIXELS // (height * width))
            for start in range(0, len(group), at_once):
                places = group[start : start + at_once]
                target = torch.stack([self._targets[which[j]] for j in places])
                all_count = torch.ones((), dtype=torch.bool, device=target.device).expand(height, width)
                valids = (self._valids[which[j]] for j in places)
                valid = torch.stack([all_count if v is None else v for v in valids])
                yield places, target, torch.stack([masks[j] for j in places]), valid
