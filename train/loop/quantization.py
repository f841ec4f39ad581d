"""QLoRA: the frozen language model in 4 bits, with bitsandbytes.

Source: QLoRA (Dettmers et al., 2023): NormalFloat, double quantization of the scales, arithmetic in 16 bits.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from geoclick.errors import GeoClickError

if TYPE_CHECKING:
    import torch

KINDS = ("nf4",)

SKIPPED = ("model.visual", "lm_head")
"""Modules that are not quantized: the vision tower is small, and the head is tied to the embeddings."""


def loading(kind: str, dtype: "torch.dtype", device: "torch.device", *, partitioned: bool) -> dict[str, Any]:
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
