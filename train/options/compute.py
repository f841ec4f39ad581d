"""How the model of a run computes: its attention and the dtype of its weights."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError, first_line

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, TrainingArguments

PLAIN = ("sdpa", "eager")
PACKAGES: dict[str, Sequence[str]] = {
    "flash_attention_2": ("flash_attn", "kernels"),
    "flash_attention_3": ("flash_attn_interface", "kernels"),
}
"""Attention that needs one of some packages, by their names at import; `kernels` loads it from the hub."""
KERNEL = re.compile(r"kernels-community/[\w.-]+(@[\w.-]+)?(:\w+)?")
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """How the model computes."""

    attn_implementation: str = option(
        "sdpa",
        help="attention: sdpa, eager, flash_attention_2, flash_attention_3, or a kernel of the hub such as "
        "kernels-community/flash-attn2; all but the first two need a GPU and a package",
    )
    dtype: str = option(
        "auto",
        help="dtype of the weights of the base; auto: that of bf16 or fp16 on a GPU, else float32",
        choices=DTYPES,
    )

    def check_name(self) -> None:
        """Refuse an unknown attention, or one whose package is missing.

        Raises:
            UsageError: the name is unknown.
            GeoClickError: its package is not installed.
        """
        name = self.attn_implementation
        if name in PLAIN:
            return
        if name not in PACKAGES and not KERNEL.fullmatch(name):
            raise UsageError(
                f"--attn-implementation must be {', '.join((*PLAIN, *PACKAGES))} or kernels-community/NAME, not "
                f"{name!r}."
            )
        packages = PACKAGES.get(name, ("kernels",))
        if not any(map(find_spec, packages)):
            raise GeoClickError(
                f"--attn-implementation {name} needs the package {' or '.join(packages)}, which is not installed; "
                "install it, or use sdpa."
            )


def weights_dtype(options: ComputeOptions, arguments: "TrainingArguments") -> "torch.dtype":
    """The dtype of the base's weights: that of the options or, for `auto`, of the run's precision."""
    import torch

    from geoclick.train.options.trl_arguments import dtype_of

    return dtype_of(arguments) if options.dtype == "auto" else getattr(torch, options.dtype)


def check(options: ComputeOptions, arguments: "TrainingArguments", *, shares_prompts: bool = False) -> None:
    """Refuse an attention that the run cannot use, before the model is loaded.

    Args:
        options: of the run.
        arguments: TRL's config of the run.
        shares_prompts: whether answers share their prompt, which takes a mask of its own.

    Raises:
        UsageError: with what to use instead.
    """
    import torch

    name = options.attn_implementation
    if name in PLAIN:
        return
    if shares_prompts:
        raise UsageError(
            f"--attn-implementation {name} takes no mask, but the answers of a group share their prompt by one; use "
            "sdpa or eager."
        )
    if arguments.device.type != "cuda":
        raise UsageError(f"--attn-implementation {name} needs a GPU, but the run is on the CPU; use sdpa.")
    if weights_dtype(options, arguments) == torch.float32:
        raise UsageError(
            f"--attn-implementation {name} needs weights of 16 bits; add --dtype bfloat16, or use sdpa."
        )


def set_attention(model: "PreTrainedModel", options: ComputeOptions) -> None:
    """Let a model, not wrapped yet, use the attention of the options; raises GeoClickError if it cannot be loaded."""
    name = options.attn_implementation
    if model.config._attn_implementation == name:
        return
    try:
        model.set_attn_implementation(name)
    except Exception as error:  # of the package, of the hub, or of transformers
        raise GeoClickError(
            f"--attn-implementation {name} cannot be loaded ({first_line(error)}); use sdpa."
        ) from error
