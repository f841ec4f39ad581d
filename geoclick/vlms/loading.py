"""Load a Qwen-VL model and its processor, and an adapter on top, from a folder, the hub or the package."""

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

import safetensors
import torch
from packaging.version import Version

from geoclick import devices, model_folders
from geoclick.codec import Frame
from geoclick.errors import GeoClickError, UsageError
from geoclick.vlms import adapter as adapters
from geoclick.vlms import adapter_patterns, adapter_towers, merged
from geoclick.vlms.adapter import AdapterRecord
from geoclick.vlms.families import family_of
from geoclick.vlms.merged import MergedRecord
from geoclick.vlms.processor import Processor

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from geoclick.vlms.quantization import Quantized

EMBEDDED = Path(__file__).resolve().parents[1] / "embedded" / "vlm"
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
OLDEST_TRANSFORMERS = "5.24"
"""The oldest tested version; before 5.18, a Qwen-VL ignores image features that are passed in and trains on texts."""

OTHER_NAMES = "--vlm an existing folder, a hub id such as Qwen/Qwen3-VL-2B-Instruct, or 'embedded'"


@dataclass(frozen=True)
class Vlm:
    """A vision-language model, ready for inference or training.

    Attributes:
        model: the transformers model, wrapped by PEFT when there is an adapter, in eval mode.
        processor: its processor; it pads on the left, as generation needs.
        family: a key of `geoclick.vlms.families.FAMILIES`.
        name: as the user gave it.
        revision: commit of a hub model, empty for a local folder.
        device: where the model is.
        fingerprint: of the base's weights, see `fingerprint`.
        record: the adapter's or the merged model's, or None; its `answer_format` is the one to use.
        folder: with the base's files; None for a model that was not loaded from one.
        quantized: kind of the base's quantization, of `quantization.KINDS`; empty if it is not quantized.
    """

    model: "PreTrainedModel | PeftModel"
    processor: Processor
    family: str
    name: str
    revision: str
    device: torch.device
    fingerprint: str
    record: AdapterRecord | MergedRecord | None = None
    folder: Path | None = None
    quantized: str = ""

    def frame(self, image_size: tuple[int, int], answer_format: str) -> Frame:
        """How the clicks of an image of `image_size` (height, width) are written in an answer format."""
        return Frame(self.family, answer_format, image_size, resized_size(self.processor, image_size))


@dataclass(frozen=True)
class Base:
    """All of a model but its weights: enough to write its prompts and to read its answers.

    Attributes:
        processor: see `Vlm`; likewise the others.
    """

    processor: Processor
    family: str
    name: str
    revision: str
    fingerprint: str
    record: AdapterRecord | MergedRecord | None
    folder: Path

    def frame(self, image_size: tuple[int, int], answer_format: str) -> Frame:
        """See `Vlm.frame`."""
        return Frame(self.family, answer_format, image_size, resized_size(self.processor, image_size))


def load(
    name: str | None = None,
    *,
    adapter: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    revision: str | None = None,
    quantized: "Quantized | None" = None,
) -> Vlm:
    """Load a VLM.

    Args:
        name: `embedded`, a folder in transformers' layout, or a hub id; weights are read as safetensors only,
            and no code from the model is run. None is the model that the adapter was trained on, else the embedded one.
        adapter: folder of a LoRA adapter, or None.
        device: None or `auto` takes CUDA when there is one, else the CPU.
        dtype: of the weights; None takes bfloat16 on CUDA and float32 on the CPU.
        min_pixels: smallest area of the resized image; None is the adapter's or the model's own.
        max_pixels: largest area of the resized image; None as above.
        revision: branch, tag or commit of a hub model; None takes the one that the adapter was trained on, if this is
            its base, else the newest.
        quantized: keyword arguments of `from_pretrained` that quantize while loading.

    Raises:
        GeoClickError: the model or adapter is missing, unreadable, no Qwen-VL, or they do not fit each other; or
            transformers is too old.
        UsageError: an unknown device, or pixel limits other than those of the training.
    """
    base = load_base(name, adapter=adapter, min_pixels=min_pixels, max_pixels=max_pixels, revision=revision)
    device = devices.choose(device)
    if dtype is None:
        dtype = default_dtype(device)
    model = load_model(base.folder, dtype, quantized)
    if adapter is not None:
        model = adapters.attach(model, adapter)
    if device.type != "cpu" and not quantized:
        model = model.to(device)
    kind = quantized["quantization_config"].bnb_4bit_quant_type if quantized else ""
    return Vlm(model=model.eval(), device=device, quantized=kind, **vars(base))


def load_base(
    name: str | None = None,
    *,
    adapter: str | Path | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    revision: str | None = None,
) -> Base:
    """Everything of a VLM but its weights, after all checks of it and of the adapter; see `load`."""
    check_transformers()
    record = adapters.read_record(adapter) if adapter is not None else None
    name = adapters.base_of(name, adapter)
    if revision is None and record is not None and record.base == name:
        revision = record.revision or None
    folder, commit = locate(name, revision)
    own = merged.read_record(folder)
    family = read_family(folder)
    stamp = fingerprint(folder)
    if own is not None:
        merged.check(own, folder, name=name, fingerprint=stamp)
    if record is not None:
        adapters.check_base(record, name=name, family=family, fingerprint=stamp)
    if adapter is not None and record is not None:
        # Before the model: a pattern of an untrusted adapter may take for ever.
        adapter_patterns.check(adapters.read_config(Path(adapter)), module_names(folder), Path(adapter))
        adapter_towers.check(record, Path(adapter))
    trained = record or own
    if trained is not None:
        min_pixels = _same_limit("min_pixels", min_pixels, trained.min_pixels)
        max_pixels = _same_limit("max_pixels", max_pixels, trained.max_pixels)
    processor = load_processor(folder, min_pixels=min_pixels, max_pixels=max_pixels)
    return Base(processor, family, name, commit, stamp, trained, folder)


def check_transformers() -> None:
    """Raise GeoClickError if the installed transformers is older than `OLDEST_TRANSFORMERS`."""
    installed = version("transformers")
    if Version(installed) < Version(OLDEST_TRANSFORMERS):
        raise GeoClickError(
            f"GeoClick needs transformers {OLDEST_TRANSFORMERS} or newer, not {installed}; "
            "run pip install --upgrade transformers."
        )


def default_dtype(device: torch.device) -> torch.dtype:
    """The dtype of the weights for inference on a device."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def locate(name: str, revision: str | None = None) -> tuple[Path, str]:
    """The folder that holds a model, and its commit when it comes from the hub (downloaded once, cached).

    Raises:
        GeoClickError: no such folder, or the hub does not have it or cannot be reached.
    """
    if name == "embedded":
        if not (EMBEDDED / "config.json").is_file():
            raise GeoClickError(f"The package holds no embedded VLM at {EMBEDDED}; reinstall geoclick.")
        return EMBEDDED, ""
    folder = model_folders.locate(name, HUB_FILES, OTHER_NAMES, revision)
    return folder, "" if Path(name).is_dir() else folder.name


def read_family(folder: Path) -> str:
    """The family of the model in a folder, by its config.json; raises GeoClickError when it is no Qwen-VL."""
    return family_of(model_folders.model_type(folder))


def fingerprint(folder: Path) -> str:
    """SHA-256 over the name, shape and first row of every weight: equal for copies, different after any training.

    Raises:
        GeoClickError: there are no safetensors files, or one is corrupted.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise GeoClickError(
            f"{folder} holds no .safetensors weights; save the model in that format, or give another."
        )
    rows = {}
    for file in files:
        try:
            with safetensors.safe_open(file, framework="pt") as weights:
                for key in weights.keys():  # noqa: SIM118 (a file handle, not a mapping)
                    row = weights.get_slice(key)
                    shape = row.get_shape()
                    row = row[:1] if shape else weights.get_tensor(key)
                    content = row.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
                    rows[key] = repr(shape).encode() + content
        except (safetensors.SafetensorError, OSError, RuntimeError) as error:
            raise GeoClickError(
                f"{file} is corrupted or cut short; download or copy the model again."
            ) from error
    digest = hashlib.sha256()
    for key in sorted(rows):
        digest.update(key.encode() + b"\0" + rows[key])
    return digest.hexdigest()


def module_names(folder: Path) -> list[str]:
    """The names of the modules with weights in a model's folder, and of all modules that contain these."""
    names = set()
    for file in folder.glob("*.safetensors"):
        with safetensors.safe_open(file, framework="pt") as weights:
            for key in weights.keys():  # noqa: SIM118 (a file handle, not a mapping)
                while key := key.rpartition(".")[0]:
                    names.add(key)
    return sorted(names)


def load_processor(
    folder: Path, *, min_pixels: int | None = None, max_pixels: int | None = None
) -> Processor:
    """The processor in a model's folder, padding on the left, with its pixel limits set.

    Raises:
        GeoClickError: its files are missing or broken.
        UsageError: `min_pixels` exceeds `max_pixels`.
    """
    from transformers import AutoProcessor

    with model_folders.loading("processor", folder):
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        limits = pixel_limits(processor)
        # Without its files a tokenizer is empty rather than an error.
        if processor.chat_template is None or len(processor.tokenizer.encode(processor.image_token)) != 1:
            raise ValueError("no chat template, or no token for an image")
    least, most = min_pixels or limits[0], max_pixels or limits[1]
    if least > most:
        raise UsageError(f"min_pixels {least} exceeds max_pixels {most}; lower the one or raise the other.")
    processor.image_processor.size = type(processor.image_processor.size)(
        **{"shortest_edge": least, "longest_edge": most}
    )
    processor.tokenizer.padding_side = "left"
    return processor


def load_model(folder: Path, dtype: torch.dtype, quantized: "Quantized | None" = None) -> "PreTrainedModel":
    """The conditional-generation model in a folder, on the CPU (or partitioned, under DeepSpeed ZeRO-3).

    Args:
        folder: in transformers' layout.
        dtype: of the weights.
        quantized: see `load`; they also set the model's device.

    Raises:
        GeoClickError: weights are missing, superfluous, of another shape or corrupted.
    """
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging

    logging.disable_progress_bar()
    fix = "the folder mixes two models or is incomplete: download or copy it again."
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **cast("Quantized", quantized or {}),
        )
    except Exception as error:  # shape mismatches, missing shards and config errors have no common type
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
        raise GeoClickError(f"The model in {folder} cannot be loaded ({reason}); {fix}") from error
    wrong = sorted(
        map(str, [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]])
    )
    if wrong:
        raise GeoClickError(
            f"{len(wrong)} weights in {folder} do not match its config.json, such as {wrong[0]}; {fix}"
        )
    _check_experts(model, folder)
    return model


def _check_experts(model: "PreTrainedModel", folder: Path) -> None:
    """Refuse a Qwen3-VL-MoE with square weights of experts.

    Published files hold these weights transposed, files of transformers 5 do not, and transformers sees it only by
    their shape. The published models have 2,048 x 768 and 4,096 x 1,536.
    """
    if model.config.model_type != "qwen3_vl_moe":
        return
    text = model.config.text_config
    if text.hidden_size in (text.moe_intermediate_size, 2 * text.moe_intermediate_size):
        raise GeoClickError(
            f"The experts of {folder} have square weights (hidden_size {text.hidden_size}, moe_intermediate_size "
            f"{text.moe_intermediate_size}), which transformers may load transposed; give a model of other sizes."
        )


def empty_model(folder: Path) -> "PreTrainedModel":
    """The model in a folder without its weights, on the device `meta`."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, trust_remote_code=False)


def pixel_limits(processor: Processor) -> tuple[int, int]:
    """Smallest and largest area, in pixels, that the processor resizes an image to."""
    size = processor.image_processor.size
    return int(size["shortest_edge"]), int(size["longest_edge"])


def resized_size(processor: Processor, size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) in pixels that the processor resizes an image of `size` (height, width) to.

    Raises:
        GeoClickError: one side is more than 200 times the other, which Qwen-VL refuses.
    """
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    images = processor.image_processor
    least, most = pixel_limits(processor)
    try:
        return smart_resize(
            *size, factor=images.patch_size * images.merge_size, min_pixels=least, max_pixels=most
        )
    except ValueError as error:
        raise GeoClickError(
            f"An image of {size[1]}x{size[0]} pixels is too narrow for Qwen-VL; cut it into pieces."
        ) from error


def _same_limit(key: str, given: int | None, trained: int) -> int:
    if given is not None and given != trained:
        flag = f"--{key.replace('_', '-')}"
        raise UsageError(f"The model was trained with {key} {trained}, not {given}; leave {flag} out.")
    return trained
