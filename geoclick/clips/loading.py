"""Load a CLIP or SigLIP from a folder, the hub, or an open_clip checkpoint file."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geoclick import devices, files, model_folders
from geoclick.clips import tokenizers
from geoclick.clips.architectures import ARCHITECTURES, is_open_clip
from geoclick.clips.tokenizers import Tokenizer
from geoclick.errors import GeoClickError, UsageError

if TYPE_CHECKING:
    from transformers import CLIPModel, SiglipModel

EMBEDDED = Path(__file__).resolve().parents[1] / "embedded" / "clip"
SAFE = ("*.safetensors", "*.json", "*.txt", "*.model")
PICKLED = "pytorch_model*.bin"
"""Weights of older models on the hub; only tensors are unpickled."""

OTHER_NAMES = (
    "an existing folder, a hub id such as openai/clip-vit-base-patch16, or an open_clip architecture with "
    "--clip-checkpoint"
)

NORMALIZATION = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and standard deviation of RGB from 0 to 1, by the type of a model."""

RGB = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Clip:
    """A CLIP or SigLIP, ready for inference.

    Attributes:
        model: transformers' model, in evaluation mode and without gradients.
        tokenizer: its tokenizer.
        mean: of RGB from 0 to 1, that its images are normalized with.
        std: standard deviation, as `mean`.
        image_size: side of the images of its training in pixels.
        name: as the user gave it.
        fingerprint: hash of its weight files and its activation.
        embeddings: text embeddings that were computed, see text_embeddings.py.
    """

    model: "CLIPModel | SiglipModel"
    tokenizer: Tokenizer
    mean: RGB
    std: RGB
    image_size: int
    name: str
    fingerprint: str
    embeddings: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def is_siglip(self) -> bool:
        """Whether it is a SigLIP: without a class token, and with texts of a fixed length."""
        return self.model.config.model_type != "clip"


def load_clip(
    name: str = "embedded",
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    *,
    quick_gelu: bool | None = None,
) -> Clip:
    """Load a CLIP or SigLIP.

    Args:
        name: `embedded`, a folder in transformers' layout or a hub id; with a checkpoint an architecture of open_clip,
            such as ViT-B-32 or, if the weights were trained with OpenAI's activation, ViT-B-32-quickgelu.
        checkpoint: weight file of open_clip, such as RemoteCLIP-ViT-B-32.pt.
        device: None or "auto" selects the GPU if there is one.
        dtype: of the weights; None takes float16 on a GPU and float32 on the CPU.
        quick_gelu: the activation of a checkpoint; None decides by its name (architectures.py).

    Raises:
        UsageError: the name does not go with a checkpoint, or needs one.
        GeoClickError: the weights cannot be read, hold code, or are of another architecture.
    """
    device = devices.choose(device)
    if checkpoint is not None:
        if not is_open_clip(name):
            raise UsageError(
                f"--clip-checkpoint needs an architecture of open_clip, not {name!r}; use --clip with one of "
                f"{', '.join(ARCHITECTURES)}."
            )
        clip = _from_checkpoint(name, Path(checkpoint), quick_gelu)
    elif is_open_clip(name) and not Path(name).is_dir():
        raise UsageError(f"--clip {name} needs --clip-checkpoint, the weight file of that architecture.")
    else:
        clip = _from_folder(name, _locate(name))
    if dtype is None:
        dtype = torch.float16 if device.type == "cuda" else torch.float32
    clip.model.to(device=device, dtype=dtype)
    return clip


def _from_checkpoint(name: str, path: Path, quick_gelu: bool | None) -> Clip:
    from geoclick.clips.open_clip_weights import load_checkpoint

    model = load_checkpoint(name, path, quick_gelu=quick_gelu)
    vision = model.config.vision_config
    return Clip(
        model,
        tokenizers.for_checkpoint(path),
        *NORMALIZATION["clip"],
        vision.image_size,
        name,
        f"{files.sha256(path)}-{vision.hidden_act}",
    )


def _from_folder(name: str, folder: Path) -> Clip:
    model_type = _model_type(folder)
    model = _load_model(folder, model_type)
    mean, std = _normalization(folder, model_type)
    vision = model.config.vision_config
    fingerprint = f"{files.sha256_of_all(_weight_files(folder))}-{vision.hidden_act}"
    return Clip(model, _load_tokenizer(folder), mean, std, vision.image_size, name, fingerprint)


def _locate(name: str) -> Path:
    """The folder of a model; one from the hub is downloaded once."""
    if name == "embedded":
        if not (EMBEDDED / "config.json").is_file():
            raise GeoClickError(f"The package holds no embedded CLIP at {EMBEDDED}; reinstall geoclick.")
        return EMBEDDED
    folder = model_folders.locate(name, SAFE, OTHER_NAMES)
    if not Path(name).is_dir() and not _weight_files(folder):
        folder = model_folders.locate(name, (*SAFE, PICKLED), OTHER_NAMES)
    return folder


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob(PICKLED))


def _model_type(folder: Path) -> str:
    model_type = model_folders.model_type(folder)
    if model_type == "siglip2":
        raise GeoClickError(
            f"{folder} is a SigLIP 2 of variable resolution (NaFlex), which has no pixel grid; give one of a fixed "
            "resolution, such as google/siglip2-base-patch16-224."
        )
    if model_type not in NORMALIZATION:
        raise GeoClickError(
            f"{folder} holds a model of type {model_type}, not a CLIP or SigLIP; give one of these."
        )
    return model_type


def _load_model(folder: Path, model_type: str) -> "CLIPModel | SiglipModel":
    from transformers import CLIPModel, SiglipModel

    kind = CLIPModel if model_type == "clip" else SiglipModel
    return model_folders.load_model(kind, folder, "CLIP", weights_only=True)


def _load_tokenizer(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    with model_folders.loading("tokenizer", folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        # Without its files a tokenizer is empty rather than an error.
        if len(tokenizer) <= len(tokenizer.all_special_tokens) + 1:
            raise ValueError("incomplete")
    return tokenizer


def _normalization(folder: Path, model_type: str) -> tuple[RGB, RGB]:
    """Mean and standard deviation in the files of the image processor, or those of the model's type."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content = content.get("image_processor", content)
            if "image_mean" not in content:
                continue
            (r, g, b), (dr, dg, db) = content["image_mean"], content["image_std"]
            return (float(r), float(g), float(b)), (float(dr), float(dg), float(db))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise GeoClickError(
                f"{path} has no mean and std of three colors; download the model again."
            ) from error
    return NORMALIZATION[model_type]
