"""The ranges of TRL's options, which it accepts with any number: a run outside of them diverges or trains nothing."""

import math
from collections.abc import Mapping
from typing import Any

from geoclick.errors import UsageError

AT_LEAST_ONE = (
    *("gradient_accumulation_steps", "per_device_train_batch_size", "num_iterations"),
    *("steps_per_generation", "generation_batch_size"),
)
NOT_NEGATIVE = (
    *("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps", "beta", "seed", "data_seed"),
    *("dataloader_num_workers", "neftune_noise_alpha", "label_smoothing_factor"),
)
BELOW_ONE = ("label_smoothing_factor",)


def check(options: Mapping[str, Any]) -> None:
    """Refuse numbers outside of their range, and numbers that are not finite; raises UsageError with the range."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value):
            raise UsageError(f"{name} must be a finite number, not {value}.")
        if name in AT_LEAST_ONE and value < 1:
            raise UsageError(f"{name} must be 1 or more, not {value}.")
        if name in NOT_NEGATIVE and value < 0:
            raise UsageError(f"{name} must be 0 or more, not {value}.")
        if name in BELOW_ONE and value >= 1:
            raise UsageError(f"{name} must be below 1, not {value:g}.")
        if name == "num_train_epochs" and value <= 0:
            raise UsageError(f"num_train_epochs must be above 0, not {value:g}.")
        if name == "max_steps" and value != -1 and value < 1:
            raise UsageError(f"max_steps must be 1 or more, or -1 for complete epochs, not {value}.")
