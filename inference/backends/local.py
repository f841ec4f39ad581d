"""Batched generation with transformers: images and queries to the model's answers as text, in the same order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch

from geoclick.codec import Answer
from geoclick.errors import GeoClickError
from geoclick.inference import generative
from geoclick.inference.backends.base import Reply
from geoclick.inference.generative import Generation
from geoclick.vlms import encoding
from geoclick.vlms.loading import resized_size

if TYPE_CHECKING:
    from geoclick.vlms.loading import Vlm

MAX_NEW_TOKENS = {"json": 384, "compact": 160}
"""Room for twelve clicks with one token a digit: a json click takes about 28 tokens, a compact one 11."""


class Generator(Protocol):
    """The method of a transformers model that generates tokens."""

    def generate(self, **inputs: Any) -> torch.Tensor:
        """Prompt and answer as tokens, int64 [B, T]."""
        ...


def reading_order(sizes: Sequence[tuple[int, int]], queries: Sequence[str]) -> list[int]:
    """The indices of queries from the shortest prompt to the longest, so that batches hold little padding.

    Args:
        sizes: (height, width) of each image; the number of visual tokens, most of a prompt, grows with its area.
        queries: the text of each.
    """
    return sorted(range(len(queries)), key=lambda i: (sizes[i][0] * sizes[i][1], len(queries[i]), i))


def generate(
    vlm: "Vlm",
    images: Sequence[np.ndarray],
    queries: Sequence[str],
    *,
    answer_format: str,
    batch_size: int = 16,
    max_new_tokens: int | None = None,
    temperature: float = 0.0,
    in_step: bool = False,
) -> list[str]:
    """The model's answer to each query, as text in the order of the queries.

    Args:
        vlm: model and processor.
        images: uint8 [H, W, 3] RGB each.
        queries: the text of each.
        answer_format: `json` or `compact`; decides the prompt and the default of `max_new_tokens`.
        batch_size: queries in one call of the model; the text does not depend on it (up to rounding).
        max_new_tokens: length limit of an answer; None takes MAX_NEW_TOKENS of the format.
        temperature: 0 takes the most likely token; above 0 samples from torch's global generator.
        in_step: whether the model is partitioned among processes, which then all run as many steps as the slowest.
    """
    tokenizer = vlm.processor.tokenizer
    options = {
        "max_new_tokens": max_new_tokens or MAX_NEW_TOKENS[answer_format],
        "do_sample": temperature > 0,
        "temperature": temperature or 1.0,
        # A checkpoint's own generation settings would penalize repeated digits and truncate the distribution.
        "top_p": 1.0,
        "top_k": 0 if temperature else 50,
        "repetition_penalty": 1.0,
        "pad_token_id": tokenizer.pad_token_id,
        "synced_gpus": in_step,
    }
    generator = cast(Generator, vlm.model)
    order = reading_order([(image.shape[0], image.shape[1]) for image in images], queries)
    texts = [""] * len(queries)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        inputs = encoding.model_inputs(
            vlm, [images[i] for i in chosen], [queries[i] for i in chosen], answer_format=answer_format
        )
        with torch.inference_mode():
            output = generator.generate(**inputs, **options)
        answers = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(chosen, answers, strict=True):
            texts[i] = text.strip()
    return texts


@dataclass(frozen=True)
class Local:
    """A model in this process as a backend.

    Attributes:
        vlm: model and processor.
        generation: how answers are generated.
        in_step: see `generate`.
    """

    vlm: "Vlm"
    generation: Generation
    in_step: bool = False

    @property
    def answer_format(self) -> str:
        """The format of the answers, by default that of the training."""
        return self.generation.answer_format or generative.default_format(self.vlm)

    def refusal(self, size: tuple[int, int]) -> str:
        """See `Backend`. Processes in step must all ask for the same number of batches, so that nothing is refused."""
        if self.in_step:
            return ""
        if narrow := generative.refusal(size):
            return narrow
        try:
            resized_size(self.vlm.processor, size)
        except GeoClickError as error:
            return str(error)
        return ""

    def answer(self, images: Sequence[np.ndarray], queries: Sequence[str]) -> list[Reply]:
        """See `Backend`."""
        texts = generate(
            self.vlm,
            images,
            queries,
            answer_format=self.answer_format,
            batch_size=self.generation.batch_size,
            max_new_tokens=self.generation.max_new_tokens,
            temperature=self.generation.temperature,
            in_step=self.in_step,
        )
        return [Reply(text) for text in texts]

    def read(self, text: str, size: tuple[int, int]) -> Answer:
        """See `Backend`."""
        return self.vlm.frame(size, self.answer_format).decode(text)
