"""The architecture of the embedded SAM, and its initial weights."""

from pathlib import Path

import torch

from geoclick.errors import GeoClickError
from geoclick.segmenters.architectures import SamConfig
from geoclick.segmenters.embedded import read_folder
from geoclick.segmenters.sam import build
from geoclick.segmenters.sam_library import Sam
from geoclick.weight_files import first_not_finite

POSITION_SCALE = 2.0
"""Scale of the prompt encoder's random frequencies; doubled, neighboring tokens get distinct positions."""

ATTENTION_SCALE = 2.0
"""Scale of the query and key projections between clicks and image, which start equal to each other.

A click then attends to its own place from the first step. Learning that from independent random weights took longer
than the complete training.
"""

ARCHITECTURE = SamConfig(
    image_size=256,
    patch_size=8,
    encoder_width=128,
    encoder_depth=5,
    encoder_heads=4,
    global_blocks=(2, 4),
    window_size=8,
    # The relative-position tables of segment-anything take half of the encoder's time on a CPU.
    relative_positions=False,
    prompt_width=96,
    decoder_depth=2,
    decoder_heads=4,
    decoder_mlp=384,
    score_hidden=96,
)
"""1.6 M parameters, 32 x 32 tokens, low-resolution masks of 128 x 128."""


def initialize(seed: int) -> Sam:
    """The model with random weights, in training mode."""
    torch.manual_seed(seed)
    sam = build(ARCHITECTURE)
    torch.nn.init.trunc_normal_(sam.image_encoder.pos_embed, std=0.02)
    sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(POSITION_SCALE)
    transformer = sam.mask_decoder.transformer
    cross_attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        cross_attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    with torch.no_grad():
        for attention in cross_attentions:
            attention.q_proj.weight.mul_(ATTENTION_SCALE)
            attention.k_proj.load_state_dict(attention.q_proj.state_dict())
    return sam.train()


def read_start(folder: Path) -> Sam:
    """The weights in a folder to start from, in training mode.

    Raises:
        GeoClickError: the folder is incomplete, its architecture is not ARCHITECTURE, or a weight is not finite.
    """
    sam = read_folder(folder, ARCHITECTURE)
    if broken := first_not_finite(sam.state_dict()):
        raise GeoClickError(
            f"The weights in {folder} are not finite ({broken}); give the folder of a completed training."
        )
    return sam.requires_grad_(True).train()
