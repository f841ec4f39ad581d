"""Dense features of CLIP and SigLIP by six methods: one vision transformer whose last blocks differ.

The methods are MaskCLIP (arXiv 2112.01071), SCLIP (2312.01597), GEM (2312.00878), ClearCLIP (2407.12442) and
SegEarth-OV (2410.01768), and plain CLIP, with the settings of SegEarth-OV's published comparison.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from geoclick.errors import GeoClickError, UsageError

if TYPE_CHECKING:
    from transformers import CLIPModel, SiglipModel
    from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer, CLIPVisionModel
    from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How a method differs from CLIP.

    Attributes:
        attention: the attention weights of the last block are the sum of one softmax for each of these pairs of
            projections; without pairs every token attends to itself only.
        residual: whether the last block has its skip connections and its MLP.
        self_self_blocks: number of last blocks that are replaced by GEM's self-self attention.
    """

    attention: tuple[str, ...] = ()
    residual: bool = True
    self_self_blocks: int = 0


VARIANTS = {
    "clip": Variant(attention=("qk",)),
    "maskclip": Variant(),
    "sclip": Variant(attention=("qq", "kk")),
    "gem": Variant(self_self_blocks=6),
    "clearclip": Variant(attention=("qq",), residual=False),
    "segearth-ov": Variant(attention=("qq", "kk", "vv"), residual=False),
}
"""The methods of `dense_features`."""


@torch.no_grad()
def dense_features(
    model: "CLIPModel | SiglipModel", pixel_values: Tensor, method: str
) -> tuple[Tensor, Tensor | None]:
    """Features of each patch in the space of the text embeddings.

    Args:
        model: transformers' CLIPModel, or SiglipModel (SigLIP and SigLIP 2 of a fixed resolution).
        pixel_values: normalized images, float [B, 3, H, W]; what exceeds a multiple of the patch size is cut off.
        method: a key of VARIANTS.

    Returns:
        The features [B, h, w, D], projected, not normalized; and the class token [B, D] of the method, also projected.
        SigLIP has no class token: it is None, and its patches are projected by the value path of its pooling head.

    Raises:
        UsageError: unknown method.
        GeoClickError: the images are smaller than a patch.
    """
    variant = variant_of(method)
    tower = model.vision_model
    tokens, grid = _embed(tower, pixel_values, antialias=variant.self_self_blocks > 0)
    layers = list(tower.encoder.layers)
    special = variant.self_self_blocks or 1
    for layer in layers[:-special]:
        tokens = _block(layer, tokens)
    if variant.self_self_blocks:
        tokens = _self_self_blocks(layers[-special:], tokens)
    else:
        tokens = _last_block(layers[-1], tokens, variant)
    tokens = tower.post_layernorm(tokens)
    if not _has_class_token(tower):
        return torch.unflatten(_value_path(tower.head, tokens), 1, grid), None
    tokens = model.visual_projection(tokens)
    return torch.unflatten(tokens[:, 1:], 1, grid), tokens[:, 0]


def variant_of(method: str) -> Variant:
    """The variant of a method; raises UsageError if there is no such method."""
    if method not in VARIANTS:
        raise UsageError(f"Unknown dense method {method!r}; use one of {', '.join(VARIANTS)}.")
    return VARIANTS[method]


def patch_size(model: "CLIPModel | SiglipModel") -> int:
    """The side of a patch in pixels."""
    return int(model.vision_model.embeddings.patch_embedding.stride[0])


def _has_class_token(tower: "CLIPVisionModel") -> bool:
    return hasattr(tower.embeddings, "class_embedding")


def _embed(
    tower: "CLIPVisionModel", pixel_values: Tensor, *, antialias: bool
) -> tuple[Tensor, tuple[int, int]]:
    """The input of the first block [B, tokens, C] and the (height, width) of the patch grid."""
    embeddings = tower.embeddings
    convolution = embeddings.patch_embedding
    height, width = pixel_values.shape[-2:]
    side = convolution.stride[0]
    if min(height, width) < side:
        raise GeoClickError(
            f"An image of {width}x{height} pixels is smaller than a patch of {side}x{side}; give a larger image."
        )
    patches = convolution(pixel_values.to(convolution.weight))
    grid = patches.shape[-2], patches.shape[-1]
    tokens = patches.flatten(2).transpose(1, 2)
    positions = embeddings.position_embedding.weight
    if not _has_class_token(tower):
        return tokens + _patch_positions(positions, grid, antialias), grid
    token = (embeddings.class_embedding + positions[0]).expand(len(tokens), 1, -1)
    tokens = torch.cat([token, tokens + _patch_positions(positions[1:], grid, antialias)], dim=1)
    return tower.pre_layrnorm(tokens), grid


def _patch_positions(positions: Tensor, grid: tuple[int, int], antialias: bool) -> Tensor:
    """The position embeddings [h * w, C] of a grid, bicubic from the square one of the training.

    GEM resizes with antialias. The others have none and scale by (h + 0.1) / side, which shifts the sampling points a
    little from those of a resize to (h, w).
    """
    side = math.isqrt(len(positions))
    if grid == (side, side):
        return positions
    square = positions.float().T.reshape(1, -1, side, side)
    if antialias:
        resized = functional.interpolate(square, size=grid, mode="bicubic", antialias=True)
    else:
        scale = (grid[0] + 0.1) / side, (grid[1] + 0.1) / side
        resized = functional.interpolate(square, scale_factor=scale, mode="bicubic")
    return resized.flatten(2)[0].T.to(positions.dtype)


def _block(layer: "CLIPEncoderLayer", tokens: Tensor) -> Tensor:
    """An ordinary block of the transformer."""
    tokens = tokens + _attend(layer.self_attn, layer.layer_norm1(tokens), ("qk",))
    return tokens + layer.mlp(layer.layer_norm2(tokens))


def _last_block(layer: "CLIPEncoderLayer", tokens: Tensor, variant: Variant) -> Tensor:
    attended = _attend(layer.self_attn, layer.layer_norm1(tokens), variant.attention)
    if not variant.residual:
        return attended
    tokens = tokens + attended
    return tokens + layer.mlp(layer.layer_norm2(tokens))


def _heads(attention: "CLIPAttention", name: str, hidden: Tensor) -> Tensor:
    """The projection `name` (q, k or v) by heads [B, heads, tokens, C / heads]."""
    projected = getattr(attention, f"{name}_proj")(hidden)
    return torch.unflatten(projected, -1, (attention.num_heads, -1)).transpose(1, 2)


def _attend(attention: "CLIPAttention", hidden: Tensor, pairs: tuple[str, ...]) -> Tensor:
    """Attention with the summed weights of the pairs of projections, before the skip connection."""
    names = sorted(set("".join(pairs)) | {"v"})
    projected = {name: _heads(attention, name, hidden) for name in names}
    value = projected["v"]
    outputs = [
        functional.scaled_dot_product_attention(projected[query], projected[key], value)
        for query, key in map(tuple, pairs)
    ]
    output = sum(outputs[1:], outputs[0]) if outputs else value
    return attention.out_proj(output.transpose(1, 2).flatten(2))


def _self_self_blocks(layers: "list[CLIPEncoderLayer]", tokens: Tensor) -> Tensor:
    """GEM: the self-self attentions accumulate on their own path, the ordinary path feeds the next block."""
    output = tokens
    for number, layer in enumerate(layers):
        output = output + _self_self(layer.self_attn, layer.layer_norm1(tokens))
        if number + 1 < len(layers):
            tokens = _block(layer, tokens)
    return output


def _self_self(attention: "CLIPAttention", hidden: Tensor) -> Tensor:
    """GEM's attention with one iteration: the mean over queries, keys and values, each attending to itself."""
    value = _heads(attention, "v", hidden)
    temperature = hidden.norm(dim=-1).mean(dim=-1)[:, None, None, None] * value.shape[-1] ** -0.5
    outputs = []
    for name in "vkq":
        tokens = functional.normalize(_heads(attention, name, hidden), dim=-1)
        tokens = functional.scaled_dot_product_attention(tokens * temperature, tokens, tokens, scale=1.0)
        tokens = functional.normalize(tokens, dim=-1)
        outputs.append(
            functional.scaled_dot_product_attention(tokens * temperature, tokens, value, scale=1.0)
        )
    output = (outputs[0] + outputs[1] + outputs[2]) / 3
    return attention.out_proj(output.transpose(1, 2).flatten(2))


def _value_path(head: "SiglipMultiheadAttentionPoolingHead", tokens: Tensor) -> Tensor:
    """SigLIP's pooling head as if each token were the only one: its attention then returns the token's value."""
    attention = head.attention
    value = slice(2 * attention.embed_dim, None)
    tokens = functional.linear(tokens, attention.in_proj_weight[value], attention.in_proj_bias[value])
    tokens = attention.out_proj(tokens)
    return tokens + head.mlp(head.layernorm(tokens))
