"""Constrained decoding: a model can write nothing but answers in its format.

The format is a regular expression, and llguidance knows which tokens may come next; the scores of all others become
minus infinity. The token that ends the turn is allowed where the answer is complete, and only there.
"""

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch

from geoclick.codec import MAX_CLICKS, Frame
from geoclick.errors import GeoClickError, first_line, single_line
from geoclick.vlms.generation.answers import TOKENS_OF_CLICK

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from geoclick.vlms.generation.decoding import Adjust
    from geoclick.vlms.loading import Vlm


def pattern_of(frame: Frame, max_new_tokens: int) -> str:
    """The regular expression of the answers about an image.

    Args:
        frame: of the image.
        max_new_tokens: length limit of an answer; as many clicks are allowed as fit, at most MAX_CLICKS.
    """
    clicks = max_new_tokens // TOKENS_OF_CLICK[frame.answer_format]
    return frame.pattern(min(max(clicks, 1), MAX_CLICKS))


def check() -> None:
    """Raise GeoClickError if llguidance is missing."""
    if importlib.util.find_spec("llguidance") is None:
        raise GeoClickError("--constrained needs llguidance; run pip install 'geoclick[constrained]'.")


class Constraint:
    """A tokenizer as llguidance needs it, and the patterns that were compiled for it.

    Args:
        tokenizer: a fast tokenizer of transformers.
        vocabulary: number of scores of the model, which may be more than tokens.
        ends: the tokens that end an answer.

    Raises:
        GeoClickError: llguidance is missing, or cannot read the tokenizer.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", vocabulary: int, ends: Sequence[int]) -> None:
        check()
        from llguidance import LLTokenizer

        self._vocabulary = vocabulary
        try:
            self._tokens = LLTokenizer(
                tokenizer.backend_tokenizer.to_str(), n_vocab=vocabulary, eos_token=list(ends)
            )
        except ValueError as error:
            raise GeoClickError(
                f"llguidance cannot read the model's tokenizer ({first_line(error)}); leave --constrained out."
            ) from error
        # Equal sizes of images have equal patterns, and in most families all have.
        self._compiled: dict[str, LLMatcher] = {}

    def adjust(self, patterns: Sequence[str]) -> "Adjust":
        """Allows each answer the tokens of its pattern only, see `decoding.Adjust`.

        Args:
            patterns: of the answers that are written together.

        Raises:
            GeoClickError: llguidance cannot compile one.
        """
        matchers = [self._compile(pattern).deep_copy() for pattern in patterns]
        return _Allowed(matchers, self._vocabulary)

    def _compile(self, pattern: str) -> "LLMatcher":
        from llguidance import LLMatcher

        if pattern not in self._compiled:
            matcher = LLMatcher(self._tokens, LLMatcher.grammar_from_regex(pattern))
            _check(matcher)
            self._compiled[pattern] = matcher
        return self._compiled[pattern]


_constraints: "WeakKeyDictionary[PreTrainedModel | PeftModel, Constraint]" = WeakKeyDictionary()


def of(vlm: "Vlm") -> Constraint:
    """The constraint of a model, which is made once."""
    if vlm.model not in _constraints:
        model = vlm.model.get_base_model() if hasattr(vlm.model, "get_base_model") else vlm.model
        ends = model.generation_config.eos_token_id
        vocabulary = model.config.text_config.vocab_size
        ends = ends if isinstance(ends, list) else [ends]
        _constraints[vlm.model] = Constraint(vlm.processor.tokenizer, vocabulary, ends)
    return _constraints[vlm.model]


class _Allowed:
    """Follows answers token by token; see `decoding.Adjust`."""

    def __init__(self, matchers: "Sequence[LLMatcher]", vocabulary: int) -> None:
        self._matchers, self._vocabulary = matchers, vocabulary
        self._consumed = [0] * len(matchers)

    def __call__(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], scores: torch.Tensor
    ) -> torch.Tensor:
        """The scores, minus infinity for tokens that are not allowed."""
        from llguidance.numpy import fill_next_token_bitmask

        bits = np.zeros((len(rows), -(-self._vocabulary // 32)), np.int32)
        for i, (row, written) in enumerate(zip(rows, tokens, strict=True)):
            matcher = self._matchers[row]
            matcher.consume_tokens(list(written[self._consumed[row] :]))
            self._consumed[row] = len(written)
            fill_next_token_bitmask(matcher, bits, i)
            _check(matcher)
        forbidden = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")[:, : scores.shape[1]] == 0
        return scores.masked_fill_(torch.from_numpy(forbidden).to(scores.device), -torch.inf)


def _check(matcher: "LLMatcher") -> None:
    """Raise GeoClickError if a matcher has failed."""
    if matcher.is_error():
        raise GeoClickError(
            f"llguidance cannot enforce the format of the answers ({single_line(matcher.get_error())}); leave "
            "--constrained out."
        )


def in_turn(*adjusts: "Adjust") -> "Adjust":
    """Several changes of the scores, one after the other; see `decoding.Adjust`."""

    def adjust(rows: Sequence[int], tokens: Sequence[Sequence[int]], scores: torch.Tensor) -> torch.Tensor:
        for change in adjusts:
            scores = change(rows, tokens, scores)
        return scores

    return adjust
