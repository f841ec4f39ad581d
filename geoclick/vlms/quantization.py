"""QLoRA: the frozen language model in 4 bits, with bitsandbytes.

Source: QLoRA (Dettmers et al., 2023): NormalFloat, double quantization of the scales, arithmetic in 16 bits.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from geoclick.errors import GeoClickError
from geoclick.vlms import adapter as adapters

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig

KINDS = ("nf4",)

CHOICES = ("auto", *KINDS, "none")
"""How a trained adapter's base is loaded: as in the training, in 4 bits, or as it is."""

SKIPPED = ("model.visual", "lm_head")
"""Modules that are not quantized: the vision tower is small, and the head is tied to the embeddings."""


class Quantized(TypedDict):
    """Keyword arguments of transformers' `from_pretrained` that quantize while loading."""

    quantization_config: "BitsAndBytesConfig"
    device_map: "dict[str, torch.device]"


def kind_of(choice: str, adapter: str | Path | None) -> str | None:
    """The kind of quantization for a choice of `CHOICES`; `auto` takes that of the adapter's training, if any.

    Raises:
        GeoClickError: the adapter has no valid record, or was trained so and bitsandbytes is not installed.
    """
    if choice != "auto":
        return None if choice == "none" else choice
    kind = adapters.read_record(adapter).config.get("quantise") if adapter is not None else None
    if kind not in KINDS:
        return None
    if find_spec("bitsandbytes") is None:
        raise GeoClickError(
            f"Adapter {adapter} was trained on a base in 4 bits, which needs bitsandbytes; pip install bitsandbytes "
            "(or geoclick[qlora]), or load the base as it is with --quantise none."
        )
    return str(kind)


def of_adapter(
    choice: str, adapter: str | Path | None, dtype: "torch.dtype", device: "torch.device"
) -> Quantized | None:
    """How a model in one process is quantized while loading, by a choice of `CHOICES`; None if it is not.

    Raises:
        GeoClickError: as in `kind_of` and `loading`.
    """
    kind = kind_of(choice, adapter)
    return loading(kind, dtype, device, partitioned=False) if kind else None


def loading(kind: str, dtype: "torch.dtype", device: "torch.device", *, partitioned: bool) -> Quantized:
    """Keyword arguments of transformers' `from_pretrained` that quantize while loading.

    Args:
        kind: of `KINDS`.
        dtype: of the arithmetic.
        device: of this process; the weights are quantized on it.
        partitioned: whether the weights are split over processes.

    Raises:
        GeoClickError: bitsandbytes is not installed, or the weights are partitioned.
    """
    if find_spec("bitsandbytes") is None:
        raise GeoClickError(
            f"--quantise {kind} needs bitsandbytes; pip install bitsandbytes (or geoclick[qlora]), or remove the flag."
        )
    if partitioned:
        raise GeoClickError(
            f"--quantise {kind} does not support weights that are split over processes; "
            "use accelerate_configs/multi_gpu.yaml or zero2.yaml, or remove the flag."
        )
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(SKIPPED),
    )
    return {"quantization_config": config, "device_map": {"": device}}
