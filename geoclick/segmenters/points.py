"""Many single positive clicks on one image, each with its three masks, for any segmenter."""

from collections.abc import Callable

import numpy as np
import torch

from geoclick.clicks import Click
from geoclick.devices import BatchSize
from geoclick.segmenters.base import Embedding, Prompt, Segmenter
from geoclick.segmenters.grid_decoder import Candidates
from geoclick.segmenters.sam import SamSegmenter

CLICKS = 64
"""Clicks in one call of a segmenter that makes its own batches."""

Decoder = Callable[[np.ndarray, float], Candidates]
"""From clicks (x, y) in pixels of the image, float [P, 2], and a limit to the masks whose predicted IoU is above it; a
limit of 0 or less returns all masks."""


def decoder(segmenter: Segmenter, embedding: Embedding) -> tuple[Decoder, BatchSize]:
    """The fastest decoder of a segmenter for one image, and the number of clicks that it takes at once."""
    if isinstance(segmenter, SamSegmenter):
        sam, grid = segmenter, segmenter.grid_decoder(embedding)

        def decode_grid(points: np.ndarray, minimum: float) -> Candidates:
            return grid.decode(sam.input_points(points, embedding), minimum)

        return decode_grid, segmenter.click_batch

    def decode(points: np.ndarray, minimum: float) -> Candidates:
        prompts = [Prompt((Click(float(x), float(y)),)) for x, y in points]
        answers = segmenter.decode([embedding] * len(prompts), prompts, multimask=True)
        scores = torch.stack([answer.scores for answer in answers])
        chosen = scores > minimum if minimum > 0 else torch.ones_like(scores, dtype=torch.bool)
        low_res = torch.stack([answer.low_res for answer in answers])
        return Candidates(low_res[chosen], scores[chosen], chosen.nonzero()[:, 0])

    return decode, BatchSize(CLICKS, "clicks of the segmenter")
