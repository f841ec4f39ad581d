"""Qwen-VLs of published architectures with random weights, on which the cost of a training step does not depend.

The architectures are those of the checkpoints' config.json. The tokenizer is read from a folder, so that texts have the
same number of tokens as with the checkpoint.
"""

import base64
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.convert_slow_tokenizer import TikTokenConverter

from geoclick.errors import GeoClickError
from geoclick.vlms import Vlm

SPECIAL = {
    "<|endoftext|>": 151643,
    "<|im_start|>": 151644,
    "<|im_end|>": 151645,
    "<|object_ref_start|>": 151646,
    "<|object_ref_end|>": 151647,
    "<|box_start|>": 151648,
    "<|box_end|>": 151649,
    "<|quad_start|>": 151650,
    "<|quad_end|>": 151651,
    "<|vision_start|>": 151652,
    "<|vision_end|>": 151653,
    "<|vision_pad|>": 151654,
    "<|image_pad|>": 151655,
    "<|video_pad|>": 151656,
}
"""Qwen's control tokens in the order of their ids, which follow those of the vocabulary."""

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOKENS = {
    "image_token_id": SPECIAL["<|image_pad|>"],
    "video_token_id": SPECIAL["<|video_pad|>"],
    "vision_start_token_id": SPECIAL["<|vision_start|>"],
    "vision_end_token_id": SPECIAL["<|vision_end|>"],
}


def _qwen3(sections: list[int], **text: int) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": sections, "mrope_interleaved": True}
    return {"vocab_size": 151936, "rope_parameters": rope, **text}


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen3_vl_small": {
        "family": "qwen3_vl",
        "tied": True,
        "text": _qwen3(
            [12, 10, 10],
            hidden_size=512,
            intermediate_size=1536,
            num_hidden_layers=12,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=64,
        ),
        "vision": {
            "depth": 8,
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_heads": 6,
            "out_hidden_size": 512,
            "deepstack_visual_indexes": [1, 3, 5],
        },
    },
    "qwen3_vl_2b": {
        "family": "qwen3_vl",
        "tied": True,
        "text": _qwen3(
            [24, 20, 20],
            hidden_size=2048,
            intermediate_size=6144,
            num_hidden_layers=28,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
        ),
        "vision": {
            "depth": 24,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_heads": 16,
            "out_hidden_size": 2048,
            "deepstack_visual_indexes": [5, 11, 17],
        },
    },
    "qwen2_5_vl_7b": {
        "family": "qwen2_5_vl",
        "tied": False,
        "text": {
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        "vision": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 3584,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
    },
}
"""The first one is not published: a Qwen3-VL of about 140 million parameters, which two CPU cores can train."""


class _TikTokenReader(TikTokenConverter):  # type: ignore[misc]
    """transformers' reader of tiktoken files, without the tiktoken package."""

    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        lines = Path(tiktoken_url).read_bytes().splitlines()
        pairs = (line.split() for line in lines if line)
        return {base64.b64decode(token): int(rank) for token, rank in pairs}


def load_tokenizer(folder: Path) -> Any:
    """Qwen's tokenizer from a checkpoint's folder, or from a folder with `qwen.tiktoken`; it pads on the left.

    Raises:
        GeoClickError: the folder has neither.
    """
    ranks = folder / "qwen.tiktoken"
    if (folder / "tokenizer.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    elif ranks.is_file():
        vocabulary, merges = _TikTokenReader().extract_vocab_merges_from_model(str(ranks))
        tokenizer = Qwen2Tokenizer(vocabulary | SPECIAL, merges, eos_token="<|im_end|>")
        tokenizer.add_special_tokens({"extra_special_tokens": list(SPECIAL)})
    else:
        raise GeoClickError(
            f"{folder} holds neither tokenizer.json nor qwen.tiktoken; give --tokenizer another."
        )
    tokenizer.padding_side = "left"
    return tokenizer


def build(name: str, tokenizer: Any, *, dtype: torch.dtype, device: torch.device, seed: int) -> Vlm:
    """A VLM of a published architecture with random weights.

    Args:
        name: a key of `ARCHITECTURES`.
        tokenizer: its tokenizer.
        dtype: of the weights.
        device: of the weights.
        seed: of the weights.

    Raises:
        GeoClickError: the tokenizer has other ids for Qwen's control tokens.
    """
    architecture = ARCHITECTURES[name]
    wrong = [token for token, number in SPECIAL.items() if tokenizer.convert_tokens_to_ids(token) != number]
    if wrong:
        raise GeoClickError(
            f"The tokenizer is not that of Qwen-VL: {wrong[0]} has another id; give another folder."
        )
    third = architecture["family"] == "qwen3_vl"
    config = (Qwen3VLConfig if third else Qwen2_5_VLConfig)(
        text_config=architecture["text"] | {"bos_token_id": None, "eos_token_id": SPECIAL["<|im_end|>"]},
        vision_config=architecture["vision"],
        tie_word_embeddings=architecture["tied"],
        **TOKENS,
    )
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    image_processor = Qwen2VLImageProcessor(
        patch_size=16 if third else 14,
        merge_size=2,
        min_pixels=65536,
        max_pixels=1048576,
        **half if third else {},
    )
    classes = (
        (Qwen3VLProcessor, Qwen3VLVideoProcessor) if third else (Qwen2_5_VLProcessor, Qwen2VLVideoProcessor)
    )
    processor = classes[0](image_processor, tokenizer, classes[1](), chat_template=TEMPLATE)
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = (Qwen3VLForConditionalGeneration if third else Qwen2_5_VLForConditionalGeneration)(config)
    finally:
        torch.set_default_dtype(before)
    return Vlm(model.eval(), processor, architecture["family"], name, "", device, "")
