"""Seeded sampling: an answer depends on seed, image, query and its number only, not on what is asked together.

Gumbel noise is added to the scores, so that the token with the highest score is a sample of their distribution (the
Gumbel-max trick, arXiv 1411.0030).
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch


def seeds_of(
    seed: int, images: Sequence[np.ndarray], queries: Sequence[str], numbers: Sequence[int]
) -> list[int]:
    """A seed for each answer.

    Args:
        seed: of the command.
        images: uint8 [H, W, 3] RGB, one for each answer.
        queries: the text of each.
        numbers: of each among the answers to its query.
    """
    contents = {
        id(image): hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest()
        for image in {id(image): image for image in images}.values()
    }
    return [
        _seed(contents[id(image)], f"{seed}\0{number}\0{query}")
        for image, query, number in zip(images, queries, numbers, strict=True)
    ]


def _seed(content: bytes, words: str) -> int:
    digest = hashlib.sha256(content + words.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little")


class Sampling:
    """Makes the most likely token a sample; see `decoding.Adjust`.

    Args:
        seeds: one for each answer.
        temperature: of the sampling, above 0.
    """

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        self._seeds, self._temperature = seeds, temperature
        self._generators: dict[int, torch.Generator] = {}

    def __call__(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], scores: torch.Tensor
    ) -> torch.Tensor:
        """The scores over the temperature, plus noise."""
        noise = torch.empty_like(scores)
        for row, own in zip(rows, noise, strict=True):
            if row not in self._generators:
                self._generators[row] = torch.Generator(scores.device).manual_seed(self._seeds[row])
            own.exponential_(generator=self._generators[row])
        tiny = torch.finfo(noise.dtype).tiny
        return scores / self._temperature - noise.clamp_(min=tiny).log_()
