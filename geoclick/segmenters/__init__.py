"""Frozen promptable segmenters, loaded by the name that `--segmenter` takes."""

from pathlib import Path

import torch

from geoclick import devices
from geoclick.errors import UsageError
from geoclick.segmenters.base import Segmenter
from geoclick.segmenters.checkpoints import OFFICIAL, load_official
from geoclick.segmenters.embedded import load_embedded

NAMES = ("embedded", *OFFICIAL)


def load(
    name: str = "embedded",
    *,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    compiled: bool = False,
) -> Segmenter:
    """A segmenter by name.

    Args:
        name: one of NAMES.
        checkpoint: the `.pth` file, for all but the embedded one.
        device: None or "auto" takes the GPU where there is one.
        dtype: autocast type for speed, or None for float32.
        compiled: whether torch.compile makes its kernels, at the first calls.

    Raises:
        UsageError: an unknown name or device, or a checkpoint missing or given in vain.
        GeoClickError: the weights cannot be read or are of another architecture.
    """
    device = devices.choose(device)
    if name == "embedded":
        if checkpoint is not None:
            raise UsageError(
                f"The embedded segmenter takes no checkpoint; drop it or name one of {', '.join(OFFICIAL)}."
            )
        segmenter = load_embedded(device=device, dtype=dtype)
        return segmenter.compile() if compiled else segmenter
    if name not in OFFICIAL:
        raise UsageError(f"Unknown segmenter {name!r}; use one of {', '.join(NAMES)}.")
    if checkpoint is None:
        raise UsageError(f"Segmenter {name} needs --checkpoint FILE.pth, the released weights of that name.")
    segmenter = load_official(name, Path(checkpoint), device=device, dtype=dtype)
    return segmenter.compile() if compiled else segmenter
