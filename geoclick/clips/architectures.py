"""The architectures of open_clip's checkpoint files by their names there; importing this needs no PyTorch."""

from dataclasses import dataclass
from pathlib import Path

QUICK_GELU = "-quickgelu"
"""At the end of a name: the weights were trained with OpenAI's activation."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes of a CLIP; the defaults are those of ViT-B.

    Attributes:
        image_size: side of the images of the training in pixels.
        patch_size: side of a patch in pixels.
        width: channels of the vision transformer.
        layers: its blocks.
        heads: its attention heads.
        mlp: hidden channels of its MLPs.
        text_width: channels of the text transformer.
        text_layers: its blocks.
        text_heads: its attention heads.
        dim: length of an embedding.
    """

    image_size: int = 224
    patch_size: int
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    dim: int = 512


_PLUS = {"width": 896, "heads": 14, "mlp": 3584, "text_width": 640, "text_heads": 10, "dim": 640}
_LARGE = {
    "width": 1024,
    "layers": 24,
    "heads": 16,
    "mlp": 4096,
    "text_width": 768,
    "text_heads": 12,
    "dim": 768,
}
_HUGE = {"width": 1280, "layers": 32, "heads": 16, "mlp": 5120}
_TEXT = {"text_width": 1024, "text_layers": 24, "text_heads": 16, "dim": 1024}

ARCHITECTURES = {
    "ViT-B-32": Architecture(patch_size=32),
    "ViT-B-32-256": Architecture(patch_size=32, image_size=256),
    "ViT-B-16": Architecture(patch_size=16),
    "ViT-B-16-plus-240": Architecture(patch_size=16, image_size=240, **_PLUS),
    "ViT-L-14": Architecture(patch_size=14, **_LARGE),
    "ViT-L-14-336": Architecture(patch_size=14, image_size=336, **_LARGE),
    "ViT-L-16": Architecture(patch_size=16, **_LARGE),
    "ViT-H-14": Architecture(patch_size=14, **_HUGE, **_TEXT),
    "ViT-g-14": Architecture(patch_size=14, width=1408, layers=40, heads=16, mlp=6144, **_TEXT),
    "ViT-bigG-14": Architecture(
        patch_size=14,
        width=1664,
        layers=48,
        heads=16,
        mlp=8192,
        text_width=1280,
        text_layers=32,
        text_heads=20,
        dim=1280,
    ),
}

STARTED_FROM_OPENAI = (
    ("RemoteCLIP", "ViT-B-32"),
    ("RemoteCLIP", "ViT-L-14"),
    ("RS5M", "ViT-B-32"),
    ("RS5M", "ViT-L-14-336"),
    ("GeoRSCLIP", "ViT-B-32"),
    ("GeoRSCLIP", "ViT-L-14-336"),
    ("SkyCLIP", "ViT-L-14"),
)
"""Part of a released path, and the architecture: training started from OpenAI's weights.

GeoRSCLIP's files are called RS5M; its ViT-H-14, and SkyCLIP's ViT-B-32, started from LAION's weights.
"""


def split_name(name: str) -> tuple[str, bool]:
    """A name without the suffix of the activation, and whether it had it; `ViT-B/32` is `ViT-B-32`."""
    name = name.replace("/", "-")
    return name.removesuffix(QUICK_GELU), name.endswith(QUICK_GELU)


def is_open_clip(name: str) -> bool:
    """Whether a name is one of these architectures."""
    return split_name(name)[0] in ARCHITECTURES


def uses_quick_gelu(name: str, checkpoint: Path) -> bool:
    """Whether the weights in a file were trained with QuickGELU, by the name or by what the file's path says."""
    architecture, named = split_name(name)
    path = "/".join(checkpoint.parts[-2:]).casefold()
    return named or any(
        release.casefold() in path and architecture == started for release, started in STARTED_FROM_OPENAI
    )
