"""A tiny random SAM 3 and its processor, the same every time."""

from pathlib import Path

from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

from tests import tiny_clips

SIDE = 56
"""Of its images in pixels."""


def config() -> Sam3Config:
    """A SAM 3 with 12 object queries."""
    attention = {"num_attention_heads": 2, "hidden_size": 32}
    layers = attention | {"intermediate_size": 64, "num_layers": 1}
    backbone = attention | {"intermediate_size": 64, "num_hidden_layers": 2, "window_size": 2}
    backbone |= {"image_size": SIDE, "patch_size": 14, "pretrain_image_size": 28, "global_attn_indexes": [1]}
    text = attention | {"intermediate_size": 64, "num_hidden_layers": 2, "projection_dim": 16}
    text |= {"vocab_size": 200, "max_position_embeddings": 32}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return Sam3Config(
        vision_config={
            "backbone_config": backbone | {"model_type": "sam3_vit_model"},
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        text_config=text | {"model_type": "clip_text_model"},
        geometry_encoder_config=layers,
        detr_encoder_config=layers,
        detr_decoder_config=layers | {"num_queries": 12},
        mask_decoder_config=attention,
    )


def model(seed: int = 8) -> Sam3Model:
    """A SAM 3 with instances above and below a score of 0.5, and heads that differ between prompts."""
    sam3 = Sam3Model(config())
    tiny_clips.random_weights(sam3, seed)
    sam3.detr_decoder.presence_head.layer3.bias.data += 2
    sam3.mask_decoder.semantic_projection.weight.data *= 6
    return sam3.eval().requires_grad_(False)


def processor() -> Sam3Processor:
    """Resizes images to SIDE, and reads prompts character by character."""
    return Sam3Processor(Sam3ImageProcessor(size={"height": SIDE, "width": SIDE}), tiny_clips.tokenizer())


def folder(path: Path, sam3: Sam3Model | None = None) -> Path:
    """A model in transformers' layout, with its processor."""
    (sam3 or model()).save_pretrained(path)
    processor().save_pretrained(path)
    return path
