"""Reading and writing the small SAM that ships with the package: config.json and model.safetensors."""

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from geoclick import embedded
from geoclick.errors import GeoClickError
from geoclick.files import sha256
from geoclick.segmenters.architectures import SamConfig
from geoclick.segmenters.sam import SamSegmenter, build, first_mismatch
from geoclick.segmenters.sam_library import Sam


def load_embedded(
    *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None, folder: Path | None = None
) -> SamSegmenter:
    """The embedded SAM, float16 on disk and float32 in memory.

    Args:
        device: where it runs.
        dtype: autocast type, or None for float32.
        folder: another folder of the same layout, such as the output of train.embedded.sam.

    Raises:
        GeoClickError: a file is missing or damaged, or the files do not fit each other.
    """
    folder = folder or embedded.folder("sam")
    sam = read_folder(folder)
    return SamSegmenter(
        sam, name="embedded", sha256=sha256(folder / "model.safetensors"), device=device, dtype=dtype
    )


def read_folder(folder: Path, architecture: SamConfig | None = None) -> Sam:
    """The model in `folder`, float32 on the CPU.

    Args:
        folder: with config.json and model.safetensors.
        architecture: that it must have; None allows any.

    Raises:
        GeoClickError: a file is missing or damaged, or the architecture is another one.
    """
    try:
        config = _read_config(folder)
        state = {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise GeoClickError(
            f"{folder} does not hold a complete SAM (config.json and model.safetensors); install the package again "
            "or train the model again."
        ) from error
    if architecture and (difference := _difference(config, architecture)):
        raise GeoClickError(
            f"{folder} holds a SAM of another architecture ({difference}); give the folder of one that fits."
        )
    sam = build(config)
    reason = first_mismatch(sam, state)
    if reason:
        raise GeoClickError(
            f"The weights in {folder} do not fit its config.json ({reason}); copy both from the same run."
        )
    sam.load_state_dict(state)
    return sam


def _read_config(folder: Path) -> SamConfig:
    numbers = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return SamConfig(**numbers | {"global_blocks": tuple(numbers["global_blocks"])})


def _difference(config: SamConfig, expected: SamConfig) -> str | None:
    """The first value in which two architectures differ, in words; None if they are equal."""
    values, wanted = dataclasses.asdict(config), dataclasses.asdict(expected)
    return next(
        (f"{key} is {values[key]} instead of {wanted[key]}" for key in wanted if values[key] != wanted[key]),
        None,
    )


def write_folder(sam: Sam, config: SamConfig, folder: Path) -> None:
    """Write config.json and model.safetensors (float16), each to a temporary name that is then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().half().contiguous() for key, value in sam.state_dict().items()}
    (folder / "model.safetensors.tmp").write_bytes(save(weights))
    (folder / "model.safetensors.tmp").replace(folder / "model.safetensors")
    text = json.dumps(dataclasses.asdict(config), indent=1) + "\n"
    (folder / "config.json.tmp").write_text(text, encoding="utf-8")
    (folder / "config.json.tmp").replace(folder / "config.json")
