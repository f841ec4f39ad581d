"""The architectures of segment-anything's models; importing this needs no PyTorch."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from geoclick import embedded


@dataclass(frozen=True, kw_only=True)
class SamConfig:
    """Constructor arguments of segment-anything's classes; the defaults are the values that ViT-B, L and H share."""

    encoder_width: int
    encoder_depth: int
    encoder_heads: int
    global_blocks: tuple[int, ...]
    image_size: int = 1024
    patch_size: int = 16
    window_size: int = 14
    relative_positions: bool = True
    prompt_width: int = 256
    mask_channels: int = 16
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp: int = 2048
    score_hidden: int = 256


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
"""The released models (segment_anything/build_sam.py) by the names that `--segmenter` accepts."""


@cache
def mask_side(name: str) -> int:
    """The side of the masks, in pixels, that a segmenter writes: four pixels for each patch of its image encoder.

    Args:
        name: see `geoclick.segmenters.load`; a model whose config.json is not on this machine counts as SAM.
    """
    if name != "embedded":
        config = OFFICIAL.get(name, OFFICIAL["sam_vit_b"])
        given = {} if name in OFFICIAL else _prompt_encoder(name)
        side, patch = given.get("image_size", config.image_size), given.get("patch_size", config.patch_size)
        return 4 * side // patch
    numbers = json.loads((embedded.folder("sam") / "config.json").read_text(encoding="utf-8"))
    return int(4 * numbers["image_size"] // numbers["patch_size"])


def _prompt_encoder(name: str) -> dict[str, int]:
    """The configuration of the prompt encoder of a SAM of transformers; empty if its config.json is not here."""
    path = Path(name) / "config.json"
    if not path.is_file() and "/" in name:
        from huggingface_hub import try_to_load_from_cache

        own, _, revision = name.partition("@")
        try:
            found = try_to_load_from_cache(own, "config.json", revision=revision or None)
        except ValueError:  # a path and no id
            found = None
        path = Path(found) if isinstance(found, str) else path
    if not path.is_file():
        return {}
    config = json.loads(path.read_text(encoding="utf-8"))
    return dict(config.get("tracker_config", config).get("prompt_encoder_config", {}))
