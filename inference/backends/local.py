"""Batched generation with transformers: images and queries to the model's answers as text, in the same order."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
import torch

from geoclick.codec import Answer
from geoclick.errors import GeoClickError
from geoclick.inference import generative
from geoclick.inference.backends import constrained, sampling
from geoclick.inference.backends.base import Reply
from geoclick.inference.backends.sampling import Sampling
from geoclick.inference.generative import Generation
from geoclick.vlms import encoding
from geoclick.vlms.loading import resized_size

if TYPE_CHECKING:
    from geoclick.inference.backends.decoding import Adjust
    from geoclick.vlms.loading import Vlm

ROOM = 32
"""Clicks for which a default answer has room: 16 parts of two clicks."""
MAX_NEW_TOKENS = {name: ROOM * tokens for name, tokens in constrained.TOKENS_OF_CLICK.items()}
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
    from geoclick.inference.backends.decoding import Decoder

    decoder = Decoder(vlm, max_new_tokens=limit, temperature=temperature, compile=compile)
    for chosen in batches(images, queries, batch_size):
        prompts = encoding.prompts_of(
            vlm, [images[i] for i in chosen], [queries[i] for i in chosen], answer_format=answer_format
        )
        written = decoder.write(prompts, batch_size, constrain(chosen) if constrain else None)
        texts = vlm.processor.tokenizer.batch_decode(
            [one.tokens for one in written], skip_special_tokens=True
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
        return [replies[0] for replies in self.sample(images, queries, 1)]

    def sample(self, images: Sequence[np.ndarray], queries: Sequence[str], count: int) -> list[list[Reply]]:
        """See `Backend`."""
        repeated = [i for i in range(len(queries)) for _ in range(count)]
        images, queries = [images[i] for i in repeated], [queries[i] for i in repeated]
        answers = generate(
            self.vlm,
            images,
            queries,
            answer_format=self.answer_format,
            batch_size=self.generation.batch_size,
            max_new_tokens=self.generation.max_new_tokens,
            temperature=0.0 if self.generation.seeded else self.generation.temperature,
            in_step=self.in_step,
            constrain=self._constrain(images, queries, count),
            compile=self.generation.compile,
        )
        replies = [
            Reply(one.text, probability=one.probability, tokens=one.tokens, cut=one.cut) for one in answers
        ]
        return [replies[start : start + count] for start in range(0, len(replies), count)]

    def _constrain(
        self, images: Sequence[np.ndarray], queries: Sequence[str], count: int
    ) -> Constrain | None:
        """What changes the choice of tokens; each query comes `count` times in a row."""
        generation = self.generation
        if not (generation.constrained or generation.seeded):
            return None
        numbers = [i % count for i in range(len(queries))]
        seeds = sampling.seeds_of(generation.seed or 0, images, queries, numbers)
        limit = generation.max_new_tokens or MAX_NEW_TOKENS[self.answer_format]

        def constrain(chosen: Sequence[int]) -> "Adjust":
            changes: list[Adjust] = []
            if generation.constrained:
                frames = [
                    self.vlm.frame((images[i].shape[0], images[i].shape[1]), self.answer_format)
                    for i in chosen
                ]
                patterns = [constrained.pattern_of(frame, limit) for frame in frames]
                changes.append(constrained.of(self.vlm).adjust(patterns))
            if generation.seeded:
                changes.append(Sampling([seeds[i] for i in chosen], generation.temperature))
            return constrained.in_turn(*changes)

        return constrain

    def read(self, text: str, size: tuple[int, int]) -> Answer:
        """See `Backend`."""
        return self.vlm.frame(size, self.answer_format).decode(text)
