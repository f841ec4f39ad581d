"""The architecture of the embedded CLIP, its initial weights, and the features that training compares with text."""

import torch
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.modeling_clip import CLIPAttention

from geoclick.train.embedded.clip_processor import CONTEXT, PATCH, SIDE
from geoclick.train.embedded.vlm_model import sinusoidal_positions

VISION_WIDTH, TEXT_WIDTH, PROJECTION = 128, 128, 128


def model_config(vocabulary: int, special: dict[str, int]) -> CLIPConfig:
    """The architecture; arguments as in `build_model`."""
    start, end, _ = special.values()
    return CLIPConfig(
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": TEXT_WIDTH,
            "intermediate_size": 2 * TEXT_WIDTH,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT,
            "hidden_act": "gelu",
            "bos_token_id": start,
            "eos_token_id": end,
            "pad_token_id": end,
        },
        vision_config={
            "hidden_size": VISION_WIDTH,
            "intermediate_size": 3 * VISION_WIDTH,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": SIDE,
            "patch_size": PATCH,
            "hidden_act": "gelu",
        },
        projection_dim=PROJECTION,
    )


def build_model(vocabulary: int, special: dict[str, int]) -> CLIPModel:
    """The untrained model, 2 M parameters.

    Args:
        vocabulary: number of tokens.
        special: ids of the special tokens: start, end and unknown, in this order.
    """
    model = CLIPModel(model_config(vocabulary, special))
    positions = model.vision_model.embeddings.position_embedding.weight
    positions.data[1:] = sinusoidal_positions(SIDE // PATCH, VISION_WIDTH) / 5
    model.set_attn_implementation("eager")  # faster with short sequences on a CPU
    return model


def image_and_patch_features(
    model: CLIPModel, pixel_values: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The features of images and, in several ways, of their patches.

    The patch features come from the value path of the last block: every patch attends to itself only, with skip
    connections and MLP, as in MaskCLIP (arXiv 2112.01071); or without these, by the similarity of queries, as in
    ClearCLIP (2407.12442), or by those of queries, keys and values, as in SegEarth-OV (2410.01768).

    Args:
        model: the model.
        pixel_values: float32 [V, 3, S, S].

    Returns:
        Normalized features: of images, [V, D]; of patches, [V, patches, D] for each way.
    """
    vision = model.vision_model
    tokens = vision.pre_layrnorm(vision.embeddings(pixel_values, interpolate_pos_encoding=True))
    *blocks, last = vision.encoder.layers
    for block in blocks:
        tokens = block(tokens, None)
    image = last(tokens, None)[:, 0]
    normalized = last.layer_norm1(tokens)
    attention = last.self_attn
    skipped = tokens + attention.out_proj(attention.v_proj(normalized))
    skipped = skipped + last.mlp(last.layer_norm2(skipped))
    by_queries, by_keys, by_values = _self_attentions(attention, normalized)
    mixed = [attention.out_proj(values) for values in (by_queries, by_queries + by_keys + by_values)]
    return _project(model, image), [_project(model, way[:, 1:]) for way in (skipped, *mixed)]


def _self_attentions(attention: CLIPAttention, tokens: torch.Tensor) -> list[torch.Tensor]:
    """The values mixed by the similarity of the tokens' queries, keys and values."""
    parts = [
        torch.unflatten(projection(tokens), -1, (attention.num_heads, -1)).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    ]
    weights = [(part @ part.mT * attention.scale).softmax(-1) for part in parts]
    return [(one @ parts[2]).transpose(1, 2).flatten(2) for one in weights]


def _project(model: CLIPModel, tokens: torch.Tensor) -> torch.Tensor:
    return functional.normalize(model.visual_projection(model.vision_model.post_layernorm(tokens)), dim=-1)


def text_features(model: CLIPModel, tokens: torch.Tensor) -> torch.Tensor:
    """Normalized features [T, D] of token ids [T, L]."""
    return functional.normalize(model.get_text_features(input_ids=tokens).pooler_output, dim=-1)
