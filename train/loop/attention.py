"""Attention of a model in training and, other than that, in an evaluation during training."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers.utils.generic import is_flash_attention_requested


@contextmanager
def for_generation(model: nn.Module) -> Iterator[None]:
    """A block in which the language model uses `sdpa` instead of flash attention, whose cache takes other masks.

    Args:
        model: a Qwen-VL, wrapped or not.
    """
    configs = [
        module.config for name, module in model.named_modules() if name.rpartition(".")[2] == "language_model"
    ]
    before = [(config, config._attn_implementation) for config in configs]
    for config, name in before:
        if is_flash_attention_requested(requested_attention_implementation=name):
            config._attn_implementation = "sdpa"
    try:
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name
