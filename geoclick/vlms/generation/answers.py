"""Batched generation with transformers: images and queries to the model's answers as text, in the same order."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
import torch

from geoclick.vlms import encoding
from geoclick.vlms.given import given_tokens

if TYPE_CHECKING:
    from geoclick.vlms.generation.decoding import Adjust
    from geoclick.vlms.loading import Vlm

TOKENS_OF_CLICK = {"json": 38, "compact": 13}
"""Most tokens of a click of several parts, with one token a digit and coordinates of four digits."""
ROOM = 32
"""Clicks for which a default answer has room: 16 parts of two clicks."""
MAX_NEW_TOKENS = {name: ROOM * tokens for name, tokens in TOKENS_OF_CLICK.items()}
"""Length limit of an answer by its format; answers that reach it are counted as cut."""


class Generator(Protocol):
    """The method of a transformers model that generates tokens."""

    def generate(self, **inputs: Any) -> torch.Tensor:
        """Prompt and answer as tokens, int64 [B, T]."""
        ...


class Generated(NamedTuple):
    """What a model wrote to one query.

    Attributes:
        text: without control tokens.
        log_probability: sum over the tokens of the answer, the one that ends it included, by the model's own
            distribution: temperature 1, without `constrain`. None if the model is partitioned.
        tokens: their number; None likewise.
        cut: whether the answer reached the length limit; False if it is not known.
    """

    text: str
    log_probability: float | None = None
    tokens: int | None = None
    cut: bool = False

    @property
    def probability(self) -> float | None:
        """The geometric mean of the tokens' probabilities."""
        if self.log_probability is None or not self.tokens:
            return None
        return math.exp(self.log_probability / self.tokens)


Constrain = Callable[[Sequence[int]], "Adjust"]
"""Makes what changes the scores of a batch, given the indices of its queries; see `decoding.Adjust`."""


def batches(images: Sequence[np.ndarray], queries: Sequence[str], batch_size: int) -> list[list[int]]:
    """The indices of queries in batches from the shortest prompts to the longest, so that they hold little padding.

    All queries of an image are in one batch, next to each other; only these may be more than `batch_size`.

    Args:
        images: one for each query; the number of visual tokens, most of a prompt, grows with the area.
        queries: the text of each.
        batch_size: most queries in a batch of several images.
    """
    by_image: dict[int, list[int]] = {}
    for i, image in enumerate(images):
        by_image.setdefault(id(image), []).append(i)
    groups = [sorted(group, key=lambda i: (len(queries[i]), i)) for group in by_image.values()]
    groups.sort(key=lambda group: (images[group[0]][..., 0].size, len(queries[group[-1]]), group))
    batches: list[list[int]] = []
    for group in groups:
        if batches and len(batches[-1]) + len(group) <= batch_size:
            batches[-1] += group
        else:
            batches.append(list(group))
    return batches


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
    constrain: Constrain | None = None,
    compile: bool = False,
    beginnings: Sequence[str] | None = None,
) -> list[Generated]:
    """The model's answer to each query, in the order of the queries.

    Args:
        vlm: model and processor.
        images: uint8 [H, W, 3] RGB, one for each query; an array that occurs several times is computed once.
        queries: the text of each.
        answer_format: `json` or `compact`; decides the prompt and the default of `max_new_tokens`.
        batch_size: queries in one call of the model; the text does not depend on it (up to rounding).
        max_new_tokens: length limit of an answer; None takes MAX_NEW_TOKENS of the format.
        temperature: 0 takes the most likely token; above 0 samples from torch's global generator.
        in_step: whether the model is partitioned among processes, which then all run as many steps as the slowest;
            each query is then computed with its own image.
        constrain: restricts or changes the choice of tokens; not together with `in_step`.
        compile: compiles the step of one token; not together with `in_step`.
        beginnings: what each answer begins with, see `codec.Frame.beginning`; its tokens are not generated, and the
            texts hold it. Not together with `in_step`.
    """
    limit = max_new_tokens or MAX_NEW_TOKENS[answer_format]
    answers: dict[int, Generated] = {}
    if in_step:
        order = [i for batch in batches(images, queries, 1) for i in batch]
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            inputs = encoding.model_inputs(
                vlm, [images[i] for i in chosen], [queries[i] for i in chosen], answer_format=answer_format
            )
            texts = _generate_in_step(vlm, inputs, limit, temperature)
            answers |= zip(chosen, map(Generated, texts), strict=True)
        return [answers[i] for i in range(len(queries))]
    from geoclick.vlms.generation.decoding import Decoder

    decoder = Decoder(vlm, max_new_tokens=limit, temperature=temperature, compile=compile)
    for chosen in batches(images, queries, batch_size):
        prompts = encoding.prompts_of(
            vlm, [images[i] for i in chosen], [queries[i] for i in chosen], answer_format=answer_format
        )
        first = [
            given_tokens(vlm.processor, beginnings[i] if beginnings else "", answer_format) for i in chosen
        ]
        prompts = prompts._replace(
            tokens=[tokens + more for tokens, more in zip(prompts.tokens, first, strict=True)]
        )
        written = decoder.write(prompts, batch_size, constrain(chosen) if constrain else None)
        texts = vlm.processor.tokenizer.batch_decode(
            [given + one.tokens for given, one in zip(first, written, strict=True)], skip_special_tokens=True
        )
        for i, text, one in zip(chosen, texts, written, strict=True):
            answers[i] = Generated(text.strip(), one.log_probability, len(one.tokens), one.cut)
    return [answers[i] for i in range(len(queries))]


def _generate_in_step(
    vlm: "Vlm", inputs: dict[str, torch.Tensor], max_new_tokens: int, temperature: float
) -> list[str]:
    """The answers of a model that is partitioned among processes, by transformers' `generate`."""
    tokenizer = vlm.processor.tokenizer
    with torch.inference_mode():
        output = cast(Generator, vlm.model).generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=temperature > 0,
            temperature=temperature or 1.0,
            # A checkpoint's own generation settings would penalize repeated digits and truncate the distribution.
            top_p=1.0,
            top_k=0 if temperature else 50,
            repetition_penalty=1.0,
            pad_token_id=tokenizer.pad_token_id,
            synced_gpus=True,
        )
    answers = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in answers]
