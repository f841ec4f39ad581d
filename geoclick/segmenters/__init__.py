"""Frozen promptable segmenters, loaded by the names that `--segmenter` accepts.

Importing this needs no PyTorch; `Segmenter` comes from `geoclick.segmenters.base`, which is imported on first use.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from geoclick.errors import UsageError
from geoclick.segmenters.architectures import OFFICIAL

if TYPE_CHECKING:
    import torch

    from geoclick.segmenters.base import Segmenter
    from geoclick.segmenters.sam import SamSegmenter
    from geoclick.segmenters.transformers_sam import TransformersSam

__all__ = ["NAMES", "Segmenter", "load"]

NAMES = ("embedded", *OFFICIAL)
"""The others are folders and hub ids of transformers' SAM classes."""


def __getattr__(name: str) -> object:
    if name != "Segmenter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from geoclick.segmenters.base import Segmenter

    return Segmenter


def load(
    name: str = "embedded",
    *,
    checkpoint: str | Path | None = None,
    device: "str | torch.device | None" = None,
    dtype: "torch.dtype | None" = None,
    compiled: bool = False,
) -> "Segmenter":
    """A segmenter by name.

    Args:
        name: one of NAMES; or a SAM of transformers: a folder, or a hub id such as facebook/sam2.1-hiera-small, with
            `@REVISION` for another branch, tag or commit.
        checkpoint: the `.pth` file of a model of segment-anything; None for the others.
        device: None or "auto" selects the GPU if there is one.
        dtype: autocast type for speed, or None for float32.
        compiled: whether torch.compile compiles the model, during the first calls.

    Raises:
        UsageError: unknown name or device, missing checkpoint, or a checkpoint for a segmenter that takes none.
        GeoClickError: the weights cannot be read or have another architecture.
    """
    if name not in NAMES and "/" not in name and not Path(name).is_dir():
        raise UsageError(
            f"Unknown segmenter {name!r}; use one of {', '.join(NAMES)}, a folder, or a hub id such as "
            "facebook/sam2.1-hiera-small."
        )
    from geoclick import devices

    device = devices.choose(device)
    if checkpoint is not None and name not in OFFICIAL:
        raise UsageError(
            f"The segmenter {name} takes no checkpoint; drop it or name one of {', '.join(OFFICIAL)}."
        )
    segmenter: SamSegmenter | TransformersSam
    if name == "embedded":
        from geoclick.segmenters.embedded import load_embedded

        segmenter = load_embedded(device=device, dtype=dtype)
    elif name not in OFFICIAL:
        from geoclick.segmenters import transformers_folders

        segmenter = transformers_folders.load(name, device=device, dtype=dtype)
    else:
        if checkpoint is None:
            raise UsageError(
                f"Segmenter {name} needs --segmenter-checkpoint FILE.pth, the released weights of that name."
            )
        from geoclick.segmenters.checkpoints import load_official

        segmenter = load_official(name, Path(checkpoint), device=device, dtype=dtype)
    return segmenter.compile() if compiled else segmenter
