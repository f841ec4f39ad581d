"""Checkpoints of models for videos, as SAM 2, SAM 3 and EdgeTAM are published, hold the weights for images."""

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam3TrackerVideoConfig,
    Sam3VideoConfig,
    Sam3VideoModel,
)

from geoclick import segmenters
from geoclick.segmenters.architectures import mask_side
from tests import tiny_clips, tiny_sam3, tiny_sams

SHARED = {"mask_decoder_config": tiny_sams.DECODER, "memory_attention_hidden_size": 32}
SHARED |= {"memory_attention_num_layers": 1, "memory_attention_num_attention_heads": 1}
SHARED |= {"memory_encoder_hidden_size": 32, "memory_encoder_output_channels": 16}
SHARED |= {"mask_downsampler_embed_dim": 32, "memory_fuser_num_layers": 1}
SHARED |= {"memory_fuser_embed_dim": 32, "memory_fuser_intermediate_dim": 32}
FLAT = SHARED | {"prompt_encoder_config": tiny_sams.PROMPTS, "image_size": tiny_sams.SIDE}


def sam2():
    vision = tiny_sams.config("sam2").to_dict()["vision_config"]
    own = {"memory_attention_feed_forward_hidden_size": 32}
    return Sam2VideoModel(Sam2VideoConfig(vision_config=vision, **FLAT, **own))


def edgetam():
    vision = tiny_sams.config("edgetam").to_dict()["vision_config"]
    own = {"memory_attention_mlp_hidden_size": 32, "perceiver_resampler_hidden_size": 16}
    own |= {"perceiver_resampler_mlp_intermediate_size": 32}
    return EdgeTamVideoModel(EdgeTamVideoConfig(vision_config=vision, **FLAT, **own))


def sam3():
    detector = tiny_sam3.config().to_dict()
    tracker = Sam3TrackerVideoConfig(
        vision_config=detector["vision_config"],
        prompt_encoder_config=tiny_sams.PROMPTS | {"image_size": 56, "patch_size": 14},
        image_size=56,
        memory_attention_feed_forward_hidden_size=32,
        **SHARED,
    )
    config = Sam3VideoConfig(detector_config=detector, tracker_config=tracker.to_dict(), low_res_mask_size=16)
    return Sam3VideoModel(config)


def published(key, kind):
    """The name in the checkpoint of a weight of the model for images."""
    if kind != "sam3_tracker":
        return key
    if key.startswith("vision_encoder.backbone."):
        return f"detector_model.{key}"
    if key.startswith("vision_encoder.neck."):
        return key.replace("vision_encoder.neck.", "tracker_neck.")
    return f"tracker_model.{key}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "kind"),
    [(sam2, "sam2"), (edgetam, "edgetam"), (sam3, "sam3_tracker")],
    ids=lambda v: str(v)[:12],
)
def test_the_weights_for_images_are_those_of_the_video_model(build, kind, tmp_path):
    torch.manual_seed(0)
    video = build()
    tiny_clips.random_weights(video, 3)
    video.config.save_pretrained(tmp_path)
    # `save_pretrained` of SAM 3 would repeat a prefix, which the published file does not.
    state = {key: value.detach().clone() for key, value in video.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    tiny_sams.processor(kind).save_pretrained(tmp_path)
    loaded = segmenters.load(str(tmp_path), device="cpu")
    own = loaded.model.state_dict()
    assert len(own) > 100
    for key, value in own.items():
        assert torch.equal(value, state[published(key, kind)]), key
    assert mask_side(str(tmp_path)) == 16
