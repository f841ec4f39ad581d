"""A model in this process as a backend, with transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geoclick.clicks import ClickSequence
from geoclick.codec import Answer
from geoclick.errors import GeoClickError
from geoclick.inference.backends import constrained, sampling
from geoclick.inference.backends.base import Reply
from geoclick.inference.backends.sampling import Sampling
from geoclick.inference.generative import mask_decoding
from geoclick.inference.generative.settings import Generation, default_format
from geoclick.vlms.generation.answers import MAX_NEW_TOKENS, TOKENS_OF_CLICK, Constrain, generate
from geoclick.vlms.loading import resized_size

if TYPE_CHECKING:
    from geoclick.vlms.generation.decoding import Adjust
    from geoclick.vlms.loading import Vlm


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
        return self.generation.answer_format or default_format(self.vlm)

    def refusal(self, size: tuple[int, int]) -> str:
        """See `Backend`. Processes in step must all ask for the same number of batches, so that nothing is refused."""
        if self.in_step:
            return ""
        if narrow := mask_decoding.refusal(size):
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

    def resume(
        self,
        images: Sequence[np.ndarray],
        queries: Sequence[str],
        answers: Sequence[Sequence[ClickSequence]],
    ) -> list[Reply]:
        """Answers that begin with given clicks and have room for one more; their texts hold the given clicks.

        Args:
            images: uint8 [H, W, 3] RGB, one for each query.
            queries: the user's texts.
            answers: the given clicks of each, in parts.
        """
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        frames = [self.vlm.frame(size, self.answer_format) for size in sizes]
        written = generate(
            self.vlm,
            images,
            queries,
            answer_format=self.answer_format,
            batch_size=self.generation.batch_size,
            # What separates it from the clicks before takes a few tokens.
            max_new_tokens=TOKENS_OF_CLICK[self.answer_format] + 4,
            temperature=0.0 if self.generation.seeded else self.generation.temperature,
            constrain=self._constrain(images, queries, 1),
            beginnings=[
                frame.beginning(parts, sum(map(len, parts)))
                for frame, parts in zip(frames, answers, strict=True)
            ],
        )
        return [Reply(one.text, tokens=one.tokens) for one in written]

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
