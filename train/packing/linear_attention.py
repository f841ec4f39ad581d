"""Linear attention (gated delta net) of packed rows, computed by sample: no state passes from one sample to the next.

transformers keeps packed samples apart in these layers only with the packages flash-linear-attention and
causal-conv1d, and refuses them otherwise. Here the two functions that mix tokens, a convolution and the delta rule, get
the samples as a batch that is padded on the right, which no earlier token sees. The projections stay one call for the
complete row, so that every process of DeepSpeed ZeRO-3 makes the same calls.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from geoclick.errors import GeoClickError

Option = torch.Tensor | bool | int | str | list[int] | None
Convolution = Callable[..., torch.Tensor]
DeltaRule = Callable[..., tuple[torch.Tensor, torch.Tensor | None]]
Function = TypeVar("Function", Convolution, DeltaRule)

PADDING = 2
"""A batch holds samples of which the longest has at most this many times the tokens of the shortest."""


def layers(model: PreTrainedModel) -> list[nn.Module]:
    """The layers of linear attention of a conditional-generation model."""
    modules = model.model.language_model.named_modules()
    return [module for name, module in modules if name.endswith(".linear_attn")]


def prepare(model: PreTrainedModel) -> None:
    """Let the linear attention of a model, if it has any, read `sample_lengths`; calls without it work as before.

    Raises:
        GeoClickError: transformers' functions have other names.
    """
    for module in {sys.modules[type(layer).__module__] for layer in layers(model)}:
        _wrap(module, "causal_conv1d_fn", _convolution)
        _wrap(module, "torch_chunk_gated_delta_rule", _delta_rule)


def _wrap(module: ModuleType, name: str, wrapper: Callable[[Function], Function]) -> None:
    """Replace a function of a module by its wrapped form, once."""
    function = getattr(module, name, None)
    if function is None:
        raise GeoClickError(
            f"{module.__name__} of this transformers has no {name}, so that samples in a pack would mix; remove "
            "packing_tokens, or install a version of transformers that this GeoClick supports."
        )
    if not hasattr(function, "is_by_sample"):
        setattr(module, name, wrapper(function))


def groups(lengths: Sequence[int]) -> list[list[int]]:
    """The places of samples in groups of similar lengths, see PADDING."""
    found: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if found and PADDING * lengths[place] >= lengths[found[-1][0]]:
            found[-1].append(place)
        else:
            found.append([place])
    return found


def by_sample(
    function: Callable[..., torch.Tensor], tensors: Sequence[torch.Tensor], lengths: list[int]
) -> torch.Tensor:
    """The result of a causal function for each sample by itself.

    Args:
        function: maps tensors [N, L, ...] to one.
        tensors: of a packed row, each [1, T, ...].
        lengths: of the samples; their sum is T.

    Returns:
        [1, T, ...].
    """
    samples = [torch.split(tensor[0], lengths) for tensor in tensors]
    results: dict[int, torch.Tensor] = {}
    for group in groups(lengths):
        batch = [pad_sequence([own[i] for i in group], batch_first=True) for own in samples]
        found = zip(group, function(*batch), strict=True)
        results |= {i: result[: lengths[i]] for i, result in found}
    return torch.cat([results[i] for i in range(len(lengths))])[None]


def _convolution(function: Convolution) -> Convolution:
    @functools.wraps(function)
    def wrapped(
        hidden_states: torch.Tensor,
        *args: Option,
        sample_lengths: list[int] | None = None,
        **options: Option,
    ) -> torch.Tensor:
        """As `function`, for channels of a packed row [1, channels, T]."""
        if sample_lengths is None:
            return function(hidden_states, *args, **options)

        def convolve(rows: torch.Tensor) -> torch.Tensor:
            return function(rows.transpose(1, 2), *args, **options).transpose(1, 2)

        return by_sample(convolve, [hidden_states.transpose(1, 2)], sample_lengths).transpose(1, 2)

    wrapped.is_by_sample = True  # type: ignore[attr-defined]
    return wrapped


def _delta_rule(function: DeltaRule) -> DeltaRule:
    @functools.wraps(function)
    def wrapped(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        g: torch.Tensor,
        beta: torch.Tensor,
        sample_lengths: list[int] | None = None,
        **options: Option,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As `function`, for a packed row; no state is returned for it."""
        if sample_lengths is None:
            return function(query, key, value, g=g, beta=beta, **options)
        options |= {"cu_seqlens": None}

        def attend(*rows: torch.Tensor) -> torch.Tensor:
            return function(*rows[:3], g=rows[3], beta=rows[4], **options)[0]

        return by_sample(attend, [query, key, value, g, beta], sample_lengths), None

    wrapped.is_by_sample = True  # type: ignore[attr-defined]
    return wrapped
