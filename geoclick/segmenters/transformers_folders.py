"""Loading the SAM classes of transformers from a folder or the hub; a wrong model is an error of one sentence.

Weights are read as safetensors only, and no code from the model is run.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from geoclick import files, model_folders
from geoclick.errors import GeoClickError, first_line
from geoclick.segmenters.transformers_sam import Family, TransformersSam
from geoclick.weight_files import first_not_finite

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedModel

FILES = ("*.safetensors", "*.json")
OTHER_NAMES = "an existing folder, or a hub id such as facebook/sam2.1-hiera-small"

SAM = Family(title="SAM", model="SamModel", processor="SamImageProcessor", features="one", padded=True)
SAM_HQ = Family(
    title="SAM-HQ", model="SamHQModel", processor="SamImageProcessor", features="early", padded=True
)
SAM2 = Family(
    title="SAM 2", model="Sam2Model", processor="Sam2ImageProcessor", features="pyramid", padded=False
)
SAM3_TRACKER = Family(
    title="SAM 3 tracker",
    model="Sam3TrackerModel",
    processor="Sam3ImageProcessor",
    features="pyramid",
    padded=False,
)
EDGETAM = Family(
    title="EdgeTAM", model="EdgeTamModel", processor="Sam2ImageProcessor", features="pyramid", padded=False
)

FAMILIES = {
    "sam": SAM,
    "sam_hq": SAM_HQ,
    "sam2": SAM2,
    "sam2_video": SAM2,
    "sam3_tracker": SAM3_TRACKER,
    "sam3_tracker_video": SAM3_TRACKER,
    "sam3_video": SAM3_TRACKER,
    "edgetam": EDGETAM,
    "edgetam_video": EDGETAM,
}
"""By the `model_type` of config.json; models for videos contain the one for images."""


def load(name: str, *, device: str | torch.device, dtype: torch.dtype | None = None) -> TransformersSam:
    """A SAM of transformers.

    Args:
        name: a folder in transformers' layout, or a hub id, with `@REVISION` for another branch, tag or commit.
        device: where it runs.
        dtype: autocast type for speed, or None for float32.

    Raises:
        GeoClickError: the model is missing, damaged, of another type, or its weights are not finite.
    """
    folder, name = locate(name)
    kind = model_folders.model_type(folder)
    if kind not in FAMILIES:
        supported = ", ".join(
            dict.fromkeys(f"{family.title} ({family.model})" for family in FAMILIES.values())
        )
        raise GeoClickError(
            f"{folder} holds a model of type {kind}, which is no segmenter; supported: {supported}."
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise GeoClickError(
            f"{folder} holds no .safetensors weights, and others are not read; download or convert the model again."
        )
    family = FAMILIES[kind]
    if family is EDGETAM and find_spec("timm") is None:
        raise GeoClickError("EdgeTAM needs timm for its image encoder; install it with: pip install timm.")
    model = _load_model(folder, family)
    processor = _load_processor(folder, family, model.prompt_encoder.input_image_size)
    digest = files.sha256(weights[0]) if len(weights) == 1 else files.sha256_of_all(weights)
    return TransformersSam(model, processor, family, name=name, sha256=digest, device=device, dtype=dtype)


def locate(name: str) -> tuple[Path, str]:
    """The folder of a model, and its name for records: a hub id has its commit, as in `ID@COMMIT`.

    Raises:
        GeoClickError: no such folder, or the hub does not give the model.
    """
    if Path(name).is_dir():
        return Path(name), name
    own, _, revision = name.partition("@")
    folder = model_folders.locate(own, FILES, OTHER_NAMES, revision or None)
    # The hub's client names the folders of its cache by commit.
    return folder, f"{own}@{folder.name}"


def _load_model(folder: Path, family: Family) -> "PreTrainedModel":
    import transformers

    kind: type[PreTrainedModel] = getattr(transformers, family.model)
    model = model_folders.load_model(kind, folder, family.title, use_safetensors=True)
    if broken := first_not_finite(model.state_dict()):
        raise GeoClickError(f"The weights {broken} in {folder} are not finite; download the model again.")
    return model


def _load_processor(folder: Path, family: Family, side: int) -> "BaseImageProcessor":
    """The image processor of the folder; without its file, the default of the class for images of a side."""
    import transformers

    kind = getattr(transformers, family.processor)
    square = {"height": side, "width": side}
    size = {"longest_edge": side} if family.padded else square
    if not any((folder / name).is_file() for name in ("processor_config.json", "preprocessor_config.json")):
        return kind(size=size, pad_size=square) if family.padded else kind(size=size)
    try:
        processor = kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a broken file surfaces as OSError, ValueError, KeyError or TypeError
        raise GeoClickError(
            f"The image processor in {folder} cannot be loaded ({first_line(error)}); download the model again."
        ) from error
    given = {key: value for key, value in dict(processor.size).items() if value is not None}
    if given != size or (family.padded and dict(processor.pad_size) != square):
        raise GeoClickError(
            f"The image processor in {folder} resizes images to {given}, but the model takes {side} pixels; "
            "download the model again."
        )
    return processor
