"""PEFT and TRL import bitsandbytes wherever it is installed; a command that quantizes nothing does without it.

It imports torch._inductor, which takes longer than PyTorch itself.
"""

import json
import sys
from pathlib import Path

PACKAGE = "bitsandbytes"
OPTIMIZERS = ("bnb", "8bit", "paged", "ademamix", "rmsprop", "lion")
"""Parts of the names of optimizers that need it."""


def leave_out(vlm: str, *, optimizer: str = "") -> None:
    """Let this process find no bitsandbytes, unless the model is quantized or the optimizer comes from it.

    It is for commands, before they import a model library: nothing in the process can import the package afterwards.
    In the process of another program it does nothing.

    Args:
        vlm: the base model: `embedded`, a folder or a hub id.
        optimizer: its name in transformers' `--optim`.
    """
    if PACKAGE in sys.modules or not _is_command() or any(part in optimizer.lower() for part in OPTIMIZERS):
        return
    if vlm == "embedded" or _is_plain(vlm):
        # The documented way to say that a module does not exist.
        sys.modules[PACKAGE] = None  # type: ignore[assignment]


def _is_command() -> bool:
    """Whether this process runs a command of GeoClick, and not a program that imports it."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = spec.name if spec else Path(sys.argv[0]).name
    return name.split(".")[0] in ("geoclick", "train", "inference")


def _is_plain(vlm: str) -> bool:
    """Whether the config of a model is here and has no quantization."""
    config = Path(vlm) / "config.json"
    if not Path(vlm).is_dir() and vlm.count("/") == 1:
        config = _cached_config(vlm) or config
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "quantization_config" not in content


def _cached_config(name: str) -> Path | None:
    """The config.json of a model of the hub in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    try:
        path = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no valid name
        return None
    return Path(path) if isinstance(path, str) else None
