"""Tiny random models of the Qwen-VL families: those of tiny.py, mixtures of experts, and with linear attention."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3_5Tokenizer,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from tests import tiny

THINKING = tiny.TEMPLATE.replace(
    "<|im_start|>{{ message['role'] }}\n",
    "<|im_start|>{{ message['role'] }}\n{% if message['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}",
).replace(
    "<|im_start|>assistant\n{% endif %}",
    "<|im_start|>assistant\n<think>\n"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '\n' }}</think>\n\n{% endif %}{% endif %}",
)
"""As Qwen3.5's template: the model thinks first, unless the option forbids it."""

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
"""No weight of the experts is square: files of Qwen3-VL-MoE hold them transposed, which only their shape shows."""
LINEAR = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes, which llguidance reads; transformers gives Qwen3.5 this class in any case."""
    tokens = [*tiny.SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words = Qwen3_5Tokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        unk_token=None,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        extra_special_tokens=tiny.SPECIAL[1:],
    )
    words.add_tokens(["<think>", "</think>"])
    return words


def _text(hidden: int, head: int) -> dict[str, Any]:
    text = tiny._text(3, hidden, 0) | {"head_dim": head, "initializer_range": 0.1}
    text["rope_parameters"] |= {"mrope_interleaved": True, "partial_rotary_factor": 16 / head}
    return text


def _save(folder: Path, config: type, model: type, text: dict[str, Any], seed: int, **vision: Any) -> Path:
    torch.manual_seed(seed)
    thinks = "layer_types" in text
    words = byte_tokenizer()
    text |= {"vocab_size": len(words)}
    sizes = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 16}
    sizes |= {"out_hidden_size": text["hidden_size"], "num_position_embeddings": 16, **vision}
    own = config(text_config=text, vision_config=sizes, tie_word_embeddings=True, **tiny._tokens(words))
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    processor = Qwen3VLProcessor(
        tiny._images(16, 64 * 64, **half),
        words,
        Qwen3VLVideoProcessor(patch_size=16, merge_size=2),
        chat_template=THINKING if thinks else tiny.TEMPLATE,
    )
    built = model(own)
    for name, weight in built.named_parameters():
        if name.endswith("A_log"):
            # Otherwise most heads forget a token at once.
            torch.nn.init.uniform_(weight, -3.0, 0.0)
    return tiny._save(folder, built, processor)


def qwen3_vl_moe_folder(folder: Path, *, hidden: int = 32, seed: int = 0) -> Path:
    """Save a random Qwen3-VL with three layers, the last one with a dense MLP; returns the folder."""
    text = _text(hidden, 16) | EXPERTS | {"mlp_only_layers": [2]}
    parts = Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration
    return _save(folder, *parts, text, seed, deepstack_visual_indexes=[0])


def qwen3_5_folder(folder: Path, *, hidden: int = 32, seed: int = 0) -> Path:
    """Save a random Qwen3.5 with two layers of linear attention around one of attention; returns the folder."""
    text = _text(hidden, 32) | LINEAR
    return _save(folder, Qwen3_5Config, Qwen3_5ForConditionalGeneration, text, seed)


def qwen3_5_moe_folder(folder: Path, *, hidden: int = 32, seed: int = 0) -> Path:
    """Save a random Qwen3.5 as `qwen3_5_folder`, with experts and a shared expert; returns the folder."""
    text = _text(hidden, 32) | LINEAR | EXPERTS
    del text["intermediate_size"]
    text["shared_expert_intermediate_size"] = 32
    return _save(folder, Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration, text, seed)


NEW = {
    "qwen3_vl_moe": qwen3_vl_moe_folder,
    "qwen3_5": qwen3_5_folder,
    "qwen3_5_moe": qwen3_5_moe_folder,
}

FOLDERS = tiny.FOLDERS | NEW
"""By family."""

MIXTURES = [pytest.param(name, marks=pytest.mark.slow) for name in ("qwen3_vl_moe", "qwen3_5_moe")]

RECURRENT = ["qwen3_5", MIXTURES[1]]
"""Families with linear attention as parameters of tests."""

PARAMETERS = [*tiny.FAMILIES, "qwen3_5", *MIXTURES]
"""All families as parameters of tests, which are slow for Qwen2-VL and for mixtures of experts."""
