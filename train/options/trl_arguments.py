"""TRL's config of a run, and what follows from it and from the launcher."""

import copy
import os
from typing import Any

import torch
import trl
from accelerate.utils import patch_environment
from transformers import Trainer, TrainingArguments, get_scheduler

from geoclick.errors import GeoClickError, first_line
from geoclick.train.loop import checks

PUSH = ("push_to_hub", "hub_private_repo")
"""Options of TRL that its trainer does not get."""

EVALUATION_BATCH = 16
"""Answers that a process generates at once in an evaluation, by default."""


def trl_arguments(trl_class: str, trl_options: dict[str, Any], **ours: Any) -> TrainingArguments:
    """The config of a run: on the CPU if there is no CUDA device, else in bfloat16.

    Args:
        trl_class: name of TRL's class, `SFTConfig` or `GRPOConfig`.
        trl_options: options of that class, from the user.
        ours: options of that class that GeoClick sets.

    Raises:
        GeoClickError: TRL refuses them, or they do not go with the device.
    """
    cuda = torch.cuda.is_available() and not trl_options.get("use_cpu", False)
    check_device(trl_options, cuda=cuda)
    # GeoClick pushes the finished run itself.
    trl_options = {name: value for name, value in trl_options.items() if name not in PUSH}
    given = {"use_cpu": not cuda, "bf16": cuda and not trl_options.get("fp16", False)} | trl_options
    launcher = {}
    if {"bf16", "fp16"} & trl_options.keys():
        # Otherwise the launcher's precision would win over an option that is false.
        precision = "fp16" if given.get("fp16") else "bf16" if given["bf16"] else "no"
        launcher = {"ACCELERATE_MIXED_PRECISION": precision}
    # Every trainable weight is used in every step: no search for unused ones.
    given = {"ddp_find_unused_parameters": False, "disable_tqdm": True} | given
    given = {"per_device_eval_batch_size": EVALUATION_BATCH} | given
    # The routers of mixtures of experts are not trained, so that nothing needs balancing.
    given = {"router_aux_loss_coef": 0.0} | given
    try:
        with patch_environment(**launcher):
            arguments = getattr(trl, trl_class)(**ours, **given)
        check_optimizer(arguments)
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        reason = first_line(error)
        raise GeoClickError(f"The training options are not compatible ({reason}); change them.") from error
    if (arguments.gradient_checkpointing_kwargs or {}).get("selective"):
        raise GeoClickError(
            "gradient_checkpointing_kwargs with selective is not supported: checkpointing is limited to the trained "
            "towers; remove it."
        )
    if (arguments.liger_kernel_config or {}).get("fused_linear_cross_entropy"):
        raise GeoClickError(
            "liger_kernel_config with fused_linear_cross_entropy is not supported: the loss is GeoClick's; remove it."
        )
    checks.check_reporting(arguments.report_to)
    return arguments


def check_device(trl_options: dict[str, Any], *, cuda: bool) -> None:
    """Refuse options that need a GPU where the run has none; raises GeoClickError."""
    for name in ("fp16", "activation_offloading", "use_liger_kernel"):
        if trl_options.get(name) and not cuda:
            raise GeoClickError(f"{name} needs a GPU, but the run is on the CPU; remove it.")


def check_optimizer(arguments: TrainingArguments) -> None:
    """Create the optimizer and the schedule of a run for one weight, so that wrong options fail before the model loads.

    Raises:
        ValueError, TypeError, ImportError, RuntimeError: of the optimizer or the schedule.
    """
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    if arguments.optim_args:
        without = copy.copy(arguments)
        without.optim_args = None
        if str(options) == str(Trainer.get_optimizer_cls_and_kwargs(without)[1]):
            raise ValueError(f"optim_args has no effect with optim {arguments.optim.value}")
    device = torch.device("cuda") if arguments.device.type == "cuda" else torch.device("cpu")
    optimizer = kind([torch.nn.Parameter(torch.zeros(1, device=device))], **options)
    get_scheduler(
        arguments.lr_scheduler_type,
        optimizer,
        num_warmup_steps=0,
        num_training_steps=1,
        scheduler_specific_kwargs=dict(arguments.lr_scheduler_kwargs or {}),
    )


def partitioned(arguments: TrainingArguments) -> bool:
    """Whether each process holds only a part of the model: DeepSpeed ZeRO-3 and FSDP."""
    deepspeed = arguments.deepspeed_plugin
    return (deepspeed is not None and deepspeed.zero_stage == 3) or uses_fsdp(arguments)


def uses_fsdp(arguments: TrainingArguments) -> bool:
    """Whether the launcher or the options ask for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true" or bool(arguments.fsdp)


def dtype_of(arguments: TrainingArguments) -> torch.dtype:
    """The dtype of the base weights: that of the run's precision on a GPU, else float32."""
    if arguments.device.type != "cuda":
        return torch.float32
    return torch.float16 if arguments.fp16 else torch.bfloat16 if arguments.bf16 else torch.float32


def autocast(arguments: TrainingArguments) -> torch.autocast:
    """The precision that the run computes in."""
    dtype = torch.float16 if arguments.fp16 else torch.bfloat16
    return torch.autocast(arguments.device.type, dtype, enabled=arguments.bf16 or arguments.fp16)
