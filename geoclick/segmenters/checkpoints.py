"""Loading segment-anything's official checkpoints, and refusing a wrong file in one sentence."""

from pathlib import Path

import torch
from segment_anything.modeling import Sam

from geoclick.errors import GeoClickError
from geoclick.files import sha256
from geoclick.segmenters.sam import SamConfig, SamSegmenter, build, misfit

OFFICIAL = {
    "sam_vit_b": SamConfig(
        encoder_width=768, encoder_depth=12, encoder_heads=12, global_blocks=(2, 5, 8, 11)
    ),
    "sam_vit_l": SamConfig(
        encoder_width=1024, encoder_depth=24, encoder_heads=16, global_blocks=(5, 11, 17, 23)
    ),
    "sam_vit_h": SamConfig(
        encoder_width=1280, encoder_depth=32, encoder_heads=16, global_blocks=(7, 15, 23, 31)
    ),
}
"""The released architectures (segment_anything/build_sam.py) by the names that `--segmenter` takes."""


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a `.pth` file; unpickles tensors only.

    Raises:
        GeoClickError: the file is missing, truncated, or holds anything but named tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise GeoClickError(
            f"Checkpoint {path} does not exist; give --checkpoint the path of a segment-anything .pth file."
        ) from error
    except Exception as error:  # the bytes of a file that is no pickle are read as commands of any meaning
        raise GeoClickError(
            f"Checkpoint {path} is truncated, unreadable or no PyTorch weight file; download it again."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise GeoClickError(
            f"Checkpoint {path} holds more than named weights; give the released segment-anything .pth file."
        )
    return state


def load_official(
    name: str, path: Path, *, device: str | torch.device, dtype: torch.dtype | None
) -> SamSegmenter:
    """The released model `name` (a key of OFFICIAL) from its `.pth` file.

    Raises:
        GeoClickError: the file cannot be read, or holds another architecture (the message names it if known).
    """
    state = read_checkpoint(path)
    sam = _skeleton(name)
    reason = misfit(sam, state)
    if reason:
        right = next((other for other in OFFICIAL if misfit(_skeleton(other), state) is None), None)
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
    """The architecture without memory for its weights; drawing random ones takes half a minute for ViT-H."""
    with torch.device("meta"):
        sam = build(OFFICIAL[name])
    # These two are no part of a checkpoint, so they need their values here (build_sam.py).
    sam.register_buffer(
        "pixel_mean", torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1), persistent=False
    )
    sam.register_buffer("pixel_std", torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1), persistent=False)
    return sam
