"""The architecture of the embedded VLM, its initial weights, and the heads that exist during training only."""

import json
from pathlib import Path

import torch
from transformers import Qwen2Tokenizer, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from geoclick.errors import GeoClickError, UsageError
from geoclick.train.embedded.lessons import COLORS, KIND_INDEX
from geoclick.train.embedded.processor import MERGE, PATCH, SIDE
from geoclick.weight_files import first_not_finite

LANGUAGE_WIDTH, VISION_WIDTH = 192, 128


def model_config(vocabulary: int, special: dict[str, int]) -> Qwen3VLConfig:
    """The architecture; arguments as in `build_model`."""
    return Qwen3VLConfig(
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": LANGUAGE_WIDTH,
            "initializer_range": 0.07,  # 1 / sqrt(width); 0.02 is for wide models
            "intermediate_size": 512,
            "num_hidden_layers": 5,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
            "pad_token_id": special["<|endoftext|>"],
            "eos_token_id": special["<|im_end|>"],
        },
        vision_config={
            "depth": 5,
            "hidden_size": VISION_WIDTH,
            "initializer_range": 0.07,
            "intermediate_size": 512,
            "num_heads": 4,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "out_hidden_size": LANGUAGE_WIDTH,
            "num_position_embeddings": (SIDE // PATCH) ** 2,
            "deepstack_visual_indexes": [2],
        },
        image_token_id=special["<|image_pad|>"],
        video_token_id=special["<|video_pad|>"],
        vision_start_token_id=special["<|vision_start|>"],
        vision_end_token_id=special["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def build_model(vocabulary: int, special: dict[str, int]) -> Qwen3VLForConditionalGeneration:
    """The untrained model, 4 M parameters.

    Args:
        vocabulary: number of tokens.
        special: ids of the family's special tokens.
    """
    model = Qwen3VLForConditionalGeneration(model_config(vocabulary, special))
    # Random position embeddings have a fiftieth of the patches' magnitude, and pointing is then learned very late.
    positions = sinusoidal_positions(SIDE // PATCH, VISION_WIDTH)
    model.model.visual.pos_embed.weight.data.copy_(positions)
    return model


def load_weights(model: Qwen3VLForConditionalGeneration, folder: Path, tokenizer: Qwen2Tokenizer) -> None:
    """Load the weights of the folder of an embedded VLM into a model.

    Raises:
        UsageError: the folder holds no such model, or one of another tokenizer or architecture.
        GeoClickError: a weight is not finite.
    """
    if not (folder / "tokenizer.json").exists() or not (folder / "model.safetensors").exists():
        raise UsageError(f"{folder} is not the folder of an embedded VLM; name the folder model of its run.")
    other = Qwen2Tokenizer.from_pretrained(folder)
    if other.get_vocab() != tokenizer.get_vocab() or _merges(other) != _merges(tokenizer):
        raise UsageError(
            f"{folder} has another tokenizer than this version trains with; train from random weights."
        )
    loaded = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    try:
        model.load_state_dict(loaded.state_dict())
    except RuntimeError as error:
        raise UsageError(
            f"{folder} has another architecture than the embedded VLM; train from random weights."
        ) from error
    if broken := first_not_finite(model.state_dict()):
        raise GeoClickError(
            f"The weights in {folder} are not finite ({broken}); give the folder of a completed training."
        )


def _merges(tokenizer: Qwen2Tokenizer) -> str:
    return json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"])


def sinusoidal_positions(side: int, width: int) -> torch.Tensor:
    """Position embeddings of a square grid, [side * side, width]: sines and cosines of row and column, within 0.5."""
    wavelength = 2 * side * (1 / side) ** torch.linspace(0, 1, width // 4)
    phase = 2 * torch.pi * torch.arange(side)[:, None] / wavelength
    line = torch.cat([phase.sin(), phase.cos()], 1) / 2
    return torch.cat([line.repeat_interleave(side, 0), line.repeat(side, 1)], 1)


def auxiliary_heads() -> torch.nn.ModuleList:
    """The patch head (kind, color and offset of each patch, from visual tokens) and the point head (x, y)."""
    patch_head = torch.nn.Linear(LANGUAGE_WIDTH, MERGE**2 * (len(KIND_INDEX) + 1 + len(COLORS) + 2))
    return torch.nn.ModuleList([patch_head, torch.nn.Linear(LANGUAGE_WIDTH, 2)])
