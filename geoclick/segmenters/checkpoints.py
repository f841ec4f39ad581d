"""Loading of segment-anything's released checkpoints; a wrong file is an error of one sentence."""

from pathlib import Path

import torch

from geoclick.errors import GeoClickError
from geoclick.files import sha256
from geoclick.segmenters.architectures import OFFICIAL
from geoclick.segmenters.sam import SamSegmenter, build, first_mismatch
from geoclick.segmenters.sam_library import Sam
from geoclick.weight_files import read_state


def load_official(
    name: str, path: Path, *, device: str | torch.device, dtype: torch.dtype | None
) -> SamSegmenter:
    """The released model `name` (a key of OFFICIAL) from its `.pth` file.

    Raises:
        GeoClickError: the file cannot be read, or has another architecture (the message names it if known).
    """
    state = read_state(path, "segment-anything")
    sam = _skeleton(name)
    reason = first_mismatch(sam, state)
    if reason:
        right = next((other for other in OFFICIAL if first_mismatch(_skeleton(other), state) is None), None)
        fix = f"use --segmenter {right}" if right else "give a released segment-anything checkpoint"
        raise GeoClickError(f"Checkpoint {path} does not fit {name} ({reason}); {fix}.")
    sam.load_state_dict(state, assign=True)
    image_batch = 8 if torch.device(device).type == "cuda" else 1
    return SamSegmenter(
        sam.float(),
        name=name,
        sha256=sha256(path),
        device=device,
        dtype=dtype,
        image_batch=image_batch,
    )


def _skeleton(name: str) -> Sam:
    """The model on the meta device; initializing random weights takes half a minute for ViT-H."""
    with torch.device("meta"):
        sam = build(OFFICIAL[name])
    # These two are not part of a checkpoint (values from build_sam.py).
    sam.register_buffer(
        "pixel_mean", torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1), persistent=False
    )
    sam.register_buffer("pixel_std", torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1), persistent=False)
    return sam
