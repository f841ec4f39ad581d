"""Tiny random models of transformers' SAM classes and their processors, the same every time."""

from pathlib import Path

import torch
import transformers
from transformers import (
    EdgeTamConfig,
    PreTrainedModel,
    ProcessorMixin,
    Sam2Config,
    Sam3TrackerConfig,
    SamConfig,
    SamHQConfig,
)

from tests import tiny_clips

SIDE = 64
"""Of their images in pixels; SAM 3's patches are of 14 pixels, so that it has another."""

SIDES = dict.fromkeys(("sam", "sam_hq", "sam2", "edgetam"), SIDE) | {"sam3_tracker": 56}
"""By the `model_type` of each class."""

ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE}
ENCODER |= {"output_channels": 32, "num_pos_feats": 16, "window_size": 3, "global_attn_indexes": [1]}
DECODER = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 4, "iou_head_hidden_dim": 32}
PROMPTS = {"hidden_size": 32, "image_size": SIDE}
PYRAMID = {"fpn_hidden_size": 32, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
HIERA = {"model_type": "sam2_hiera_det_model", "hidden_size": 16, "image_size": [SIDE, SIDE]}
HIERA |= {"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [16, 32, 64, 128]}
HIERA |= {"num_attention_heads_per_stage": [1, 1, 2, 4], "window_size_per_stage": [4, 4, 2, 2]}
HIERA |= {"global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4]}
VIT = {"model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
VIT |= {"num_attention_heads": 2, "window_size": 2, "image_size": 56, "patch_size": 14}
VIT |= {"pretrain_image_size": 28, "global_attn_indexes": [1]}
REPVIT = {"model_type": "timm_wrapper", "architecture": "repvit_m1", "num_classes": 2}
REPVIT |= {"model_args": {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}}
REPVIT["model_args"] |= {"embed_dim": [8, 16, 32, 64], "depth": [1, 1, 2, 1]}


def config(kind: str) -> transformers.PreTrainedConfig:
    """The configuration of the model of a `model_type`."""
    shared = {"mask_decoder_config": DECODER, "prompt_encoder_config": PROMPTS}
    if kind == "sam":
        return SamConfig(vision_config=ENCODER, **shared)
    if kind == "sam_hq":
        return SamHQConfig(
            vision_config=ENCODER,
            prompt_encoder_config=PROMPTS,
            mask_decoder_config=DECODER | {"vit_dim": 32},
        )
    if kind == "sam3_tracker":
        vision = PYRAMID | {"backbone_config": VIT, "model_type": "sam3_vision_model"}
        prompts = PROMPTS | {"image_size": 56, "patch_size": 14}
        return Sam3TrackerConfig(
            vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=DECODER
        )
    if kind == "sam2":
        vision = PYRAMID | {"backbone_config": HIERA, "backbone_channel_list": [128, 64, 32, 16]}
        return Sam2Config(vision_config=vision | {"model_type": "sam2_vision_model"}, **shared)
    vision = PYRAMID | {"backbone_config": REPVIT, "backbone_channel_list": [64, 32, 16, 8]}
    return EdgeTamConfig(vision_config=vision | {"model_type": "edgetam_vision_model"}, **shared)


CLASSES = {
    "sam": ("SamModel", "SamProcessor", "SamImageProcessor"),
    "sam_hq": ("SamHQModel", "SamHQProcessor", "SamImageProcessor"),
    "sam2": ("Sam2Model", "Sam2Processor", "Sam2ImageProcessor"),
    "sam3_tracker": ("Sam3TrackerModel", "Sam3TrackerProcessor", "Sam3ImageProcessor"),
    "edgetam": ("EdgeTamModel", "Sam2Processor", "Sam2ImageProcessor"),
}
"""Model, processor and image processor by `model_type`."""


def model(kind: str, seed: int = 0) -> PreTrainedModel:
    """A model of a `model_type`."""
    torch.manual_seed(seed)  # of buffers
    built = getattr(transformers, CLASSES[kind][0])(config(kind))
    tiny_clips.random_weights(built, seed)
    return built.eval().requires_grad_(False)


def processor(kind: str) -> ProcessorMixin:
    """The processor of a `model_type`, whose `target_size` is that of the model."""
    side = SIDES[kind]
    square = {"height": side, "width": side}
    _, processor_class, image_class = (getattr(transformers, name) for name in CLASSES[kind])
    if kind in ("sam", "sam_hq"):
        return processor_class(image_class(size={"longest_edge": side}, pad_size=square))
    return processor_class(image_class(size=square), target_size=side)


def folder(path: Path, kind: str, own: PreTrainedModel | None = None) -> Path:
    """A model in transformers' layout, with its processor."""
    (own or model(kind)).save_pretrained(path)
    processor(kind).save_pretrained(path)
    return path
