"""TRL's arguments of a run, and what follows from its launcher."""

import os
from typing import Any

import torch
import trl

from geoclick.errors import GeoClickError, first_line
from geoclick.train.loop import checks


def trl_arguments(kind: str, trl_options: dict[str, Any], **ours: Any) -> Any:
    """TRL's arguments of a run: on the CPU where there is no CUDA, in bfloat16 where there is.

    Raises:
        GeoClickError: TRL refuses them.
    """
    cuda = torch.cuda.is_available() and not trl_options.get("use_cpu", False)
    given = {"use_cpu": not cuda, "bf16": cuda and not trl_options.get("fp16", False)} | trl_options
    # Every trainable weight is used in every step: no search for others.
    given = {"ddp_find_unused_parameters": False, "disable_tqdm": True} | given
    try:
        arguments = getattr(trl, kind)(**ours, **given)
    except (ValueError, TypeError, ImportError) as error:
        reason = first_line(error)
        raise GeoClickError(f"The training options do not go together ({reason}); change them.") from error
    checks.check_reporting(arguments.report_to)
    return arguments


def partitioned(arguments: Any) -> bool:
    """Whether no process holds the whole model: DeepSpeed ZeRO-3 and FSDP."""
    deepspeed = arguments.deepspeed_plugin
    return (deepspeed is not None and deepspeed.zero_stage == 3) or (
        os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true" or bool(arguments.fsdp)
    )
