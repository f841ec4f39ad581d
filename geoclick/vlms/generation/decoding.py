"""Tokens that a Qwen-VL writes to prompts about images: each image is computed once for all of its prompts.

A prompt begins with its image, then follows the text. Vision tower and language model compute the beginning that the
prompts of an image share once, in one batch with the other images; its keys and values are copied to each prompt, and
only the rest of the prompt is computed for it. Then all answers are written token by token, and those that have ended
leave the batch. transformers' `generate` writes the same tokens, but computes the image for each prompt, and spends
more time on its own bookkeeping than a small model on a token.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from transformers import DynamicCache

from geoclick.errors import GeoClickError
from geoclick.vlms import encoding
from geoclick.vlms.encoding import Prompts
from geoclick.vlms.families import FAMILIES
from geoclick.vlms.generation.steps import GrowingStep, State, Step, advance, join

if TYPE_CHECKING:
    from geoclick.vlms.loading import Vlm

Adjust = Callable[[Sequence[int], Sequence[Sequence[int]], torch.Tensor], torch.Tensor]
"""Changes the scores of the next tokens, float32 [n, vocabulary], such as to minus infinity where a token is not
allowed; called with the numbers of the n prompts whose answers have not ended, the tokens of these answers so far, and
the scores, which it may change in place. Numbers only become fewer from one call to the next."""


class Written(NamedTuple):
    """What the model wrote to one prompt.

    Attributes:
        tokens: up to the one that ends the turn, which is included unless the answer reached the length limit.
        log_probability: sum over these tokens, by the model's own distribution: temperature 1, before `Adjust`.
        cut: whether the answer reached the length limit.
    """

    tokens: list[int]
    log_probability: float
    cut: bool = False


class Decoder:
    """Writes answers with a model.

    Args:
        vlm: the model; with an adapter, or not.
        max_new_tokens: length limit of an answer.
        temperature: 0 takes the most likely token; above 0 samples from torch's global generator.
        compile: whether tokens are computed by a compiled graph, see `compiled`.

    Raises:
        GeoClickError: the family cannot be compiled.
    """

    def __init__(
        self, vlm: "Vlm", *, max_new_tokens: int, temperature: float = 0.0, compile: bool = False
    ) -> None:
        self.vlm, self.max_new_tokens, self.temperature = vlm, max_new_tokens, temperature
        self.compile = compile
        self._recurrent = FAMILIES[vlm.family].recurrent
        if compile and self._recurrent:
            raise GeoClickError(
                f"--compile does not support {vlm.family}, which has linear attention; remove it."
            )
        # Of PEFT, which is imported with an adapter only.
        complete = vlm.model.get_base_model() if hasattr(vlm.model, "get_base_model") else vlm.model
        self._backbone, self._head = complete.model, complete.lm_head
        ends = complete.generation_config.eos_token_id
        self._ends = torch.tensor(ends if isinstance(ends, list) else [ends], device=vlm.device)

    @torch.inference_mode()
    def write(self, prompts: Prompts, batch_size: int, adjust: Adjust | None = None) -> list[Written]:
        """What the model writes to each prompt.

        Args:
            prompts: of a few images, each of which is computed once.
            batch_size: answers that are written together.
            adjust: changes the scores of the next tokens.
        """
        lengths = shared_lengths(prompts, self.vlm.processor.image_token_id)
        images = self._begin(prompts, lengths)
        written: list[Written] = []
        for start in range(0, len(prompts.tokens), batch_size):
            rows = range(start, min(start + batch_size, len(prompts.tokens)))
            owners = [prompts.owners[row] for row in rows]
            rests = [prompts.tokens[row][lengths[owner] :] for row, owner in zip(rows, owners, strict=True)]
            state = images.select(torch.tensor(owners, device=self.vlm.device))
            # With one prompt for an image, all of it is computed already.
            if any(rests):
                proceed = self._continue_by_length if self._recurrent else self._continue
                state = proceed(state, rests)
            written += self._write(state, rows, adjust)
        return written

    def _begin(self, prompts: Prompts, lengths: Sequence[int]) -> State:
        """The state after the first tokens of the prompts of each image, as many as `lengths` says."""
        processor, device = self.vlm.processor, self.vlm.device
        first = [prompts.owners.index(image) for image in range(len(lengths))]
        beginnings = [torch.tensor(prompts.tokens[i][:n]) for i, n in zip(first, lengths, strict=True)]
        ids, mask = (t.to(device) for t in encoding.pad_left(beginnings, processor.tokenizer.pad_token_id))
        pixels = {name: value.to(device) for name, value in prompts.pixels.items()}
        kinds = (ids == processor.image_token_id).long()
        places, deltas = self._backbone.get_rope_index(
            ids, mm_token_type_ids=kinds, image_grid_thw=pixels["image_grid_thw"], attention_mask=mask
        )
        output = self._backbone(
            input_ids=ids,
            attention_mask=mask,
            position_ids=places,
            mm_token_type_ids=kinds,
            cache=DynamicCache(config=self._backbone.config) if self._recurrent else DynamicCache(),
            use_cache=True,
            **pixels,
        )
        # A visual token takes less than one position.
        position = mask.sum(dim=1) + deltas[:, 0]
        return State(output.cache, mask, position, output.last_hidden_state[:, -1])

    def _continue(self, state: State, tokens: Sequence[list[int]]) -> State:
        """The state after further tokens of each row, padded on the left."""
        pad = self.vlm.processor.tokenizer.pad_token_id
        ids, new = (t.to(self.vlm.device) for t in encoding.pad_left(list(map(torch.tensor, tokens)), pad))
        places = state.position[:, None] + (new.cumsum(dim=1) - 1).clamp(min=0)
        mask = torch.cat([state.mask, new], dim=1)
        hidden = advance(self._backbone.language_model, ids, places, mask, state.cache)
        return State(state.cache, mask, state.position + new.sum(dim=1), hidden)

    def _continue_by_length(self, state: State, tokens: Sequence[list[int]]) -> State:
        """As `_continue`, rows of equal length together: padding between tokens would change a recurrent state."""
        parts, order = [], list[int]()
        for length in sorted({len(own) for own in tokens}):
            rows = [i for i, own in enumerate(tokens) if len(own) == length]
            part = state.select(torch.tensor(rows, device=self.vlm.device))
            parts.append(self._continue(part, [tokens[i] for i in rows]))
            order += rows
        return join(parts).select(torch.tensor(order, device=self.vlm.device).argsort())

    def _write(self, state: State, rows: Sequence[int], adjust: Adjust | None) -> list[Written]:
        """The answers of the rows of a state, which is used up; `rows` are their numbers for `adjust`."""
        tokens: list[list[int]] = [[] for _ in rows]
        sums = torch.zeros(len(rows), device=self.vlm.device)
        open_rows, hidden = list(range(len(rows))), state.hidden
        step = self._step(state)
        for _ in range(self.max_new_tokens):
            scores = self._head(hidden).float()
            log_probabilities = scores.log_softmax(dim=-1)
            if adjust is not None:
                scores = adjust([rows[i] for i in open_rows], [tokens[i] for i in open_rows], scores)
            chosen = self._choose(scores)
            sums[open_rows] += log_probabilities.gather(1, chosen[:, None])[:, 0]
            for i, token in zip(open_rows, chosen.tolist(), strict=True):
                tokens[i].append(token)
            left = (~torch.isin(chosen, self._ends)).nonzero()[:, 0]
            open_rows = [open_rows[i] for i in left.tolist()]
            if not open_rows or len(tokens[open_rows[0]]) == self.max_new_tokens:
                break
            hidden = step(left, chosen[left])
        cut = set(open_rows)
        return [
            Written(own, total, i in cut)
            for i, (own, total) in enumerate(zip(tokens, sums.tolist(), strict=True))
        ]

    def _step(self, state: State) -> Step:
        """What computes the tokens after a state."""
        if not self.compile:
            return GrowingStep(self._backbone.language_model, state)
        from geoclick.vlms.generation import compiled

        rows, length = state.mask.shape
        step = compiled.step_of(self._backbone.language_model, rows, length + self.max_new_tokens)
        step.start(state.cache, state.mask, state.position)
        return step

    def _choose(self, scores: torch.Tensor) -> torch.Tensor:
        """The next tokens, int64 [N]."""
        if not self.temperature:
            return scores.argmax(dim=-1)
        return torch.multinomial((scores / self.temperature).softmax(dim=-1), 1)[:, 0]


def shared_lengths(prompts: Prompts, image_token: int) -> list[int]:
    """The number of tokens that the prompts of each image share at their beginning.

    If an image has several prompts, at least one token is left of each prompt of all images.

    Raises:
        GeoClickError: the text of a prompt comes before its image.
    """
    count = max(prompts.owners) + 1
    grouped: list[list[list[int]]] = [[] for _ in range(count)]
    for owner, tokens in zip(prompts.owners, prompts.tokens, strict=True):
        grouped[owner].append(tokens)
    if all(len(group) == 1 for group in grouped):
        return [len(group[0]) for group in grouped]
    lengths = []
    for group in grouped:
        lowest, highest = min(group), max(group)
        shortest = min(len(tokens) for tokens in group) - 1
        different = (i for i in range(shortest) if lowest[i] != highest[i])
        lengths.append(next(different, shortest))
        if image_token in lowest[lengths[-1] :]:
            raise GeoClickError(
                "The model's chat template puts the image after the text; use one that keeps the order."
            )
    return lengths
