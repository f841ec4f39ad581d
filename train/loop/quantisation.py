"""QLoRA: the frozen language model in 4 bits, by bitsandbytes.

Source: QLoRA (Dettmers et al., 2023): NormalFloat, its scales quantised again, arithmetic in 16 bits.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from geoclick.errors import GeoClickError

if TYPE_CHECKING:
    import torch

KINDS = ("nf4",)

SKIPPED = ("model.visual", "lm_head")
"""Modules that stay as they are: the vision tower is small, and the head is tied to the embeddings."""


def loading(kind: str, dtype: "torch.dtype", device: "torch.device", *, partitioned: bool) -> dict[str, Any]:
    """Keyword arguments of transformers' `from_pretrained` that quantise while loading.

    Args:
        kind: of `KINDS`.
        dtype: what the arithmetic is done in.
        device: of this process; quantised weights are made where they stay.
        partitioned: whether the weights are split over processes.

    Raises:
        GeoClickError: bitsandbytes is not there, or cannot do it for partitioned weights.
    """
    if find_spec("bitsandbytes") is None:
        raise GeoClickError(
            f"--quantise {kind} needs bitsandbytes; pip install bitsandbytes (or geoclick[qlora]), or leave it out."
        )
    if partitioned:
        raise GeoClickError(
            f"--quantise {kind} does not go with weights that are split over processes; "
            "use accelerate_configs/multi_gpu.yaml or zero2.yaml, or leave it out."
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
