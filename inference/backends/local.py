"""Batched generation with transformers: images and queries to the model's answers as text, in the same order."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch

from geoclick.vlms import encoding

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
