"""TRL's config of a run, and what follows from it and from the launcher."""

import os
from typing import Any

import torch
import trl
from transformers import TrainingArguments

from geoclick.errors import GeoClickError, first_line
from geoclick.train.loop import checks


def trl_arguments(trl_class: str, trl_options: dict[str, Any], **ours: Any) -> TrainingArguments:
    """The config of a run: on the CPU if there is no CUDA device, else in bfloat16.

    Args:
        trl_class: name of TRL's class, `SFTConfig` or `GRPOConfig`.
        trl_options: options of that class, from the user.
        ours: options of that class that GeoClick sets.

    Raises:
        GeoClickError: TRL refuses them.
    """
    cuda = torch.cuda.is_available() and not trl_options.get("use_cpu", False)
    given = {"use_cpu": not cuda, "bf16": cuda and not trl_options.get("fp16", False)} | trl_options
    # Every trainable weight is used in every step: no search for unused ones.
    given = {"ddp_find_unused_parameters": False, "disable_tqdm": True} | given
    try:
        arguments = getattr(trl, trl_class)(**ours, **given)
    except (ValueError, TypeError, ImportError) as error:
        reason = first_line(error)
        raise GeoClickError(f"The training options are not compatible ({reason}); change them.") from error
    checks.check_reporting(arguments.report_to)
    return arguments


def partitioned(arguments: TrainingArguments) -> bool:
    """Whether each process holds only a part of the model: DeepSpeed ZeRO-3 and FSDP."""
    deepspeed = arguments.deepspeed_plugin
    return (deepspeed is not None and deepspeed.zero_stage == 3) or uses_fsdp(arguments)


def uses_fsdp(arguments: TrainingArguments) -> bool:
    """Whether the launcher or the options ask for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true" or bool(arguments.fsdp)


def dtype_of(arguments: TrainingArguments) -> torch.dtype:
    """The dtype of the base weights: bfloat16 on a GPU, else float32."""
    return torch.bfloat16 if arguments.device.type == "cuda" else torch.float32


def autocast(arguments: TrainingArguments) -> torch.autocast:
    """The precision that the run computes in."""
    return torch.autocast(arguments.device.type, torch.bfloat16, enabled=arguments.bf16)
