"""Which prompts a decoder takes at once: those of equal form, and not more than its device is quick with."""

from collections.abc import Callable, Iterator, Sequence

import torch

from geoclick.segmenters.base import Prompt

PROMPTS = 64
"""Prompts per batch on a GPU."""

CACHED_ELEMENTS = 2**20
"""Elements of image features per batch of prompts on a CPU."""


def prompts_at_once(elements: int, device: torch.device) -> int:
    """The number of prompts in a batch; fewer on a CPU, where large batches do not fit its caches.

    Args:
        elements: of the features of one image.
        device: of the decoder.
    """
    return min(PROMPTS, max(1, CACHED_ELEMENTS // elements)) if device.type == "cpu" else PROMPTS


def batches(prompts: Sequence[Prompt], at_once: Callable[[int], int]) -> Iterator[list[int]]:
    """The indices of the prompts in batches of equal form: number of clicks, with a mask or not, with a box or not.

    Args:
        prompts: on any images.
        at_once: the size of a batch, given the index of the first prompt of its form.
    """
    forms: dict[tuple[int, bool, bool], list[int]] = {}
    for index, prompt in enumerate(prompts):
        key = len(prompt.clicks), prompt.low_res is None, prompt.box is None
        forms.setdefault(key, []).append(index)
    for group in forms.values():
        size = at_once(group[0])
        for start in range(0, len(group), size):
            yield group[start : start + size]
