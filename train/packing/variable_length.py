"""Causal attention within each sample of a pack, by PyTorch's variable-length kernel."""

import inspect
from typing import cast

import torch

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before PyTorch 2.10
    PARAMETERS: frozenset[str] = frozenset()
else:
    PARAMETERS = frozenset(inspect.signature(varlen_attn).parameters)

HALF = (torch.float16, torch.bfloat16)
MAX_WIDTH = 256
"""Largest width of a head that the kernel takes."""


def usable(query: torch.Tensor) -> bool:
    """Whether the kernel can be used: half precision on an NVIDIA GPU since Ampere, and PyTorch 2.11 or newer.

    Args:
        query: [1, heads, T, width].
    """
    return (
        query.is_cuda
        and query.dtype in HALF
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= MAX_WIDTH
        and "window_size" in PARAMETERS
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    longest: int,
    scale: float | None,
) -> torch.Tensor:
    """Causal attention of each sample to itself.

    Args:
        query: [1, heads, T, width].
        key: [1, key heads, T, width]; each is shared by heads / key heads queries.
        value: as `key`.
        bounds: where the samples begin, and T at the end, int32 [samples + 1], on the same device.
        longest: tokens of the longest sample.
        scale: factor of the scores; None is 1/sqrt(width).

    Returns:
        [1, T, heads, width].
    """
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    query, key, value = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))
    causal = (-1, 0)
    output = varlen_attn(query, key, value, bounds, bounds, longest, longest, scale=scale, window_size=causal)
    return cast(torch.Tensor, output)[None]
