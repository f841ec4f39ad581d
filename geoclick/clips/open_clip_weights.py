"""open_clip's checkpoint files as transformers' CLIPModel: RemoteCLIP, GeoRSCLIP, SkyCLIP, LAION's and others."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geoclick.clips.architectures import ARCHITECTURES, Architecture, split_name, uses_quick_gelu
from geoclick.errors import GeoClickError
from geoclick.weight_files import read_state

if TYPE_CHECKING:
    from transformers import CLIPModel

IGNORED = ("attn_mask", "input_resolution", "context_length", "vocab_size", "logit_bias")
"""Entries of older files that are no weights of a CLIP."""

INSTEAD = "the weights alone, or a hub id such as openai/clip-vit-base-patch16"
"""Of the TorchScript archives in which OpenAI published CLIP."""

RENAMED = {
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
BLOCKS = {
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
}
PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def load_checkpoint(name: str, path: Path, *, quick_gelu: bool | None = None) -> "CLIPModel":
    """The model in a checkpoint file, in float32 on the CPU.

    Args:
        name: a key of ARCHITECTURES, perhaps with `-quickgelu`.
        path: the file.
        quick_gelu: the activation; None decides by the name and by the file's path (`uses_quick_gelu`).

    Raises:
        GeoClickError: the file cannot be read, or has another architecture (the message names it if known).
    """
    name_only = split_name(name)[0]
    state = read_state(path, "CLIP checkpoint", instead=INSTEAD)
    if any(key.startswith("visual.layer1.") for key in state):
        raise GeoClickError(
            f"{path} holds a CLIP with a ResNet, which has no patches; give one with a vision transformer, such as "
            "ViT-B-32."
        )
    weights = dict(_renamed(state))
    if quick_gelu is None:
        quick_gelu = uses_quick_gelu(name, path)
    model = build(ARCHITECTURES[name_only], quick_gelu=quick_gelu)
    reason = _mismatch(model, weights)
    if reason:
        likely = ((other, one) for other, one in ARCHITECTURES.items() if _has_patches(one, weights))
        right = next((other for other, one in likely if _mismatch(build(one), weights) is None), None)
        fix = f"use --clip {right}" if right else "give an open_clip checkpoint with a vision transformer"
        raise GeoClickError(f"{path} does not fit {name} ({reason}); {fix}.")
    model.load_state_dict(weights, assign=True)
    for module in model.modules():
        if hasattr(module, "position_ids"):  # not part of a checkpoint
            module.position_ids = torch.arange(module.position_ids.shape[-1])[None]
    return model.float().eval().requires_grad_(False)


def build(architecture: Architecture, *, quick_gelu: bool = False) -> "CLIPModel":
    """Transformers' model on the meta device, without weights."""
    from transformers import CLIPConfig, CLIPModel

    activation = "quick_gelu" if quick_gelu else "gelu"
    text = {
        "hidden_size": architecture.text_width,
        "intermediate_size": 4 * architecture.text_width,
        "num_hidden_layers": architecture.text_layers,
        "num_attention_heads": architecture.text_heads,
        "projection_dim": architecture.dim,
        "hidden_act": activation,
    }
    vision = {
        "hidden_size": architecture.width,
        "intermediate_size": architecture.mlp,
        "num_hidden_layers": architecture.layers,
        "num_attention_heads": architecture.heads,
        "image_size": architecture.image_size,
        "patch_size": architecture.patch_size,
        "projection_dim": architecture.dim,
        "hidden_act": activation,
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=architecture.dim)
    with torch.device("meta"):
        return CLIPModel(config)


def _renamed(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The weights by the names of transformers; unknown names stay as they are."""
    for key, value in state.items():
        key = key.removeprefix("text.")
        if key.rpartition(".")[2] in IGNORED:
            continue
        start = next((prefix for prefix in BLOCKS if key.startswith(prefix)), None)
        if key in RENAMED:
            yield RENAMED[key], value
        elif key in TRANSPOSED:
            yield TRANSPOSED[key], value.T.contiguous()
        elif start is None:
            yield key, value
        else:
            number, _, rest = key.removeprefix(start).partition(".")
            yield from _block(f"{BLOCKS[start]}{number}.", rest, value)


def _block(prefix: str, name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The weights of transformers that one weight of a block becomes."""
    if name in ("attn.in_proj_weight", "attn.in_proj_bias"):
        kind = name.rpartition("_")[2]
        for part, one in zip("qkv", value.chunk(3), strict=True):
            yield f"{prefix}self_attn.{part}_proj.{kind}", one.contiguous()
    else:
        part, _, kind = name.rpartition(".")
        yield f"{prefix}{PARTS.get(part, part)}.{kind}", value


def _has_patches(architecture: Architecture, weights: dict[str, Tensor]) -> bool:
    """Whether the first layers of the vision transformer have the architecture's sizes."""
    side, grid = architecture.patch_size, architecture.image_size // architecture.patch_size
    shapes = {
        RENAMED["visual.conv1.weight"]: (architecture.width, 3, side, side),
        RENAMED["visual.positional_embedding"]: (grid**2 + 1, architecture.width),
    }
    return all(key in weights and weights[key].shape == shape for key, shape in shapes.items())


def _mismatch(model: "CLIPModel", weights: dict[str, Tensor]) -> str | None:
    """The first difference of names or shapes, or None."""
    expected = model.state_dict()
    for key, value in expected.items():
        if key not in weights:
            return f"{key} is missing"
        if weights[key].shape != value.shape:
            return f"{key} is {list(weights[key].shape)}, not {list(value.shape)}"
    extra = sorted(set(weights) - set(expected))
    return f"{extra[0]} is not part of it" if extra else None
