"""The step of one token of all answers of a batch, with a cache that grows; compiled.py has another one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn.functional import pad
from transformers import Cache
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

ROOM = 32
"""Tokens by which the room of a cache grows."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer with room for further tokens, so that a token does not copy all before it."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, room: int) -> None:
        """Copy keys and values [N, heads, L, size]."""
        super().__init__()
        self.lazy_initialization(keys, values)
        self._reserve(keys, values, room)

    def _reserve(self, keys: torch.Tensor, values: torch.Tensor, room: int) -> None:
        length = keys.shape[2]
        self._stored = [t.new_empty(*t.shape[:2], length + room, t.shape[3]) for t in (keys, values)]
        for stored, tensor in zip(self._stored, (keys, values), strict=True):
            stored[:, :, :length] = tensor
        self.keys, self.values = (stored[:, :, :length] for stored in self._stored)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, **_: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the keys and values of tokens; returns those of all tokens."""
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        if end > self._stored[0].shape[2]:
            self._reserve(self.keys, self.values, max(ROOM, key_states.shape[2]))
        for stored, new in zip(self._stored, (key_states, value_states), strict=True):
            stored[:, :, start:end] = new
        self.keys, self.values = (stored[:, :, :end] for stored in self._stored)
        return self.keys, self.values


def select(cache: Cache, rows: torch.Tensor) -> Cache:
    """A copy of some rows of a cache, which may repeat."""
    return Cache(
        layers=[
            _linear(layer.conv_states[0][rows], layer.recurrent_states[0][rows])
            if isinstance(layer, LinearAttentionLayer)
            else RoomyLayer(layer.keys[rows], layer.values[rows], ROOM)
            for layer in cache.layers
        ]
    )


def _linear(convolution: torch.Tensor, recurrent: torch.Tensor) -> LinearAttentionLayer:
    """The states of a layer of linear attention: its last inputs [N, channels, kernel] and its memory [N, ...]."""
    layer = LinearAttentionLayer()
    layer.update_conv_state(convolution)
    layer.update_recurrent_state(recurrent)
    return layer


@dataclass
class State:
    """Where the answers of a batch stand before their first token.

    Attributes:
        cache: keys and values of all tokens so far, N rows.
        mask: 1 where there is a token, int64 [N, tokens].
        position: rotary position of the next token, int64 [N].
        hidden: the model's output at the last token, [N, hidden].
    """

    cache: Cache
    mask: torch.Tensor
    position: torch.Tensor
    hidden: torch.Tensor

    def select(self, rows: torch.Tensor) -> "State":
        """Some of the rows, which may repeat."""
        return State(select(self.cache, rows), self.mask[rows], self.position[rows], self.hidden[rows])


def join(states: Sequence[State]) -> State:
    """The rows of several states one after another; those with fewer tokens are padded on the left."""
    lengths = [state.mask.shape[1] for state in states]
    missing = [max(lengths) - length for length in lengths]
    layers = []
    for own in zip(*(state.cache.layers for state in states), strict=True):
        if isinstance(own[0], LinearAttentionLayer):
            convolution = torch.cat([layer.conv_states[0] for layer in own])
            layers.append(_linear(convolution, torch.cat([layer.recurrent_states[0] for layer in own])))
        else:
            keys, values = (
                torch.cat([pad(t, (0, 0, n, 0)) for t, n in zip(tensors, missing, strict=True)])
                for tensors in zip(*((layer.keys, layer.values) for layer in own), strict=True)
            )
            layers.append(RoomyLayer(keys, values, ROOM))
    return State(
        Cache(layers=layers),
        torch.cat([pad(state.mask, (n, 0)) for state, n in zip(states, missing, strict=True)]),
        torch.cat([state.position for state in states]),
        torch.cat([state.hidden for state in states]),
    )


class Output(Protocol):
    """What a `LanguageModel` returns."""

    last_hidden_state: torch.Tensor


class LanguageModel(Protocol):
    """The language model of a Qwen-VL."""

    embed_tokens: torch.nn.Embedding
    config: "PreTrainedConfig"
    device: torch.device

    def __call__(
        self,
        *,
        inputs_embeds: torch.Tensor,
        position_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        cache: Cache,
        use_cache: bool,
    ) -> Output:
        """The outputs at further tokens."""
        ...


class Step(Protocol):
    """Computes one token more of the answers of a batch."""

    def __call__(self, left: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The model's output at new tokens, [n, hidden].

        Args:
            left: the places of the n answers that go on among those of the last call, int64 [n].
            tokens: the next token of each, int64 [n].
        """
        ...


class GrowingStep:
    """A `Step` whose cache grows; answers that have ended leave it.

    Args:
        text: the language model.
        state: which is used up.
    """

    def __init__(self, text: "LanguageModel", state: State) -> None:
        self._text, self._state = text, state

    def __call__(self, left: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """See `Step`."""
        state = self._state if len(left) == len(self._state.mask) else self._state.select(left)
        mask = torch.cat([state.mask, torch.ones_like(tokens)[:, None]], dim=1)
        hidden = advance(self._text, tokens[:, None], state.position[:, None], mask, state.cache)
        self._state = State(state.cache, mask, state.position + 1, hidden)
        return hidden


def advance(
    text: "LanguageModel", ids: torch.Tensor, places: torch.Tensor, mask: torch.Tensor, cache: Cache
) -> torch.Tensor:
    """The output of a language model at the last of further tokens, [N, hidden].

    Args:
        text: the language model.
        ids: int64 [N, T].
        places: rotary positions, int64 [N, T].
        mask: 1 where there is a token, those in the cache included, int64 [N, L + T]; or the places of the cache that
            each token attends to, bool [N, 1, T, size of the cache].
        cache: of the L tokens before; the new ones are added.
    """
    output = text(
        inputs_embeds=text.embed_tokens(ids),
        position_ids=places.expand(3, *places.shape),
        attention_mask=mask,
        cache=cache,
        use_cache=True,
    )
    return output.last_hidden_state[:, -1]
