"""The ranges of numbers that TRL accepts with any value; outside of them runs diverge, train nothing or never end."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from geoclick.errors import UsageError
from geoclick.option_values import LARGEST_INTEGER, LARGEST_NUMBER, NUMBER
from geoclick.yaml_file import quoted


class Range(NamedTuple):
    """The allowed numbers.

    Attributes:
        lowest: the smallest one, or what all of them are above.
        highest: the largest one, or what all of them are below.
        above: whether `lowest` itself is refused.
        below: whether `highest` itself is refused.
    """

    lowest: float
    highest: float
    above: bool = False
    below: bool = False

    def allows(self, value: float) -> bool:
        """Whether a number is in the range; NaN is not."""
        return (self.lowest < value if self.above else self.lowest <= value) and (
            value < self.highest if self.below else value <= self.highest
        )

    def __str__(self) -> str:
        """The words after "must be"."""
        if self.highest >= LARGEST_NUMBER:
            return f"above {self.lowest:g}" if self.above else f"{self.lowest:g} or more"
        low = f"above {self.lowest:g}" if self.above else f"from {self.lowest:g}"
        high = "below" if self.below else "at most" if self.above else ""
        return " ".join([low, "and" if self.above else "to", *filter(None, [high]), f"{self.highest:g}"])


COUNT = Range(1, LARGEST_INTEGER)
NOT_NEGATIVE = Range(0, LARGEST_NUMBER)
POSITIVE = Range(0, LARGEST_NUMBER, above=True)
SHARE = Range(0, 1)
BELOW_ONE = Range(0, 1, below=True)


def each(names: str, allowed: Range) -> dict[str, Range]:
    """The same range for several options."""
    return dict.fromkeys(names.split(), allowed)


RANGES: dict[str, Range] = {
    **each("learning_rate projector_lr vision_lr", Range(0, 10, above=True)),
    "num_train_epochs": Range(0, 1e6, above=True),
    **each("gradient_accumulation_steps per_device_train_batch_size per_device_eval_batch_size", COUNT),
    **each("num_iterations steps_per_generation generation_batch_size max_completion_length", COUNT),
    **each("save_total_limit torch_empty_cache_steps dataloader_prefetch_factor pad_to_multiple_of", COUNT),
    **each("ddp_timeout ddp_bucket_cap_mb vllm_tensor_parallel_size vllm_max_model_length", COUNT),
    "num_generations": Range(2, LARGEST_INTEGER),
    **each("save_steps logging_steps vllm_server_timeout", POSITIVE),
    **each("warmup_steps eval_delay beta seed data_seed delta num_completions_to_print", NOT_NEGATIVE),
    **each("epsilon epsilon_high off_policy_mask_threshold entropy_coef", NOT_NEGATIVE),
    **each("sapo_temperature_neg sapo_temperature_pos", POSITIVE),
    **each("vllm_importance_sampling_cap vllm_importance_sampling_clip_max", POSITIVE),
    "vllm_importance_sampling_clip_min": NOT_NEGATIVE,
    "weight_decay": Range(0, 1000),
    "max_grad_norm": NOT_NEGATIVE,
    "adam_epsilon": Range(0, 1, above=True),
    **each("adam_beta1 adam_beta2 label_smoothing_factor lora_dropout", BELOW_ONE),
    "neftune_noise_alpha": Range(0, 1000),
    "dataloader_num_workers": Range(0, 1024),
    "temperature": Range(0, 100, above=True),
    "top_p": Range(0, 1, above=True),
    "top_k": Range(-1, LARGEST_INTEGER),
    **each("min_p top_entropy_quantile", SHARE),
    "vllm_gpu_memory_utilization": Range(0, 1, above=True),
    "repetition_penalty": Range(0, 100, above=True),
    **each("vllm_server_port vllm_group_port", Range(1, 65_535)),
    "lora_r": Range(1, 16_384),
    "lora_alpha": Range(1, 1e6),
}
"""The ranges of single options; all others are at most LARGEST_INTEGER or LARGEST_NUMBER, of either sign."""


def check_written(options: Mapping[str, Any], written: Mapping[str, Any]) -> None:
    """Refuse numbers in a form that only Python reads, such as `1_0` or digits of other scripts; raises UsageError.

    Args:
        options: values by name.
        written: the same values as they stand in a file or on the command line.
    """
    for name, value in options.items():
        text = written.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and isinstance(text, str) and not NUMBER.fullmatch(text):
            raise UsageError(f"{name} must be a number, not {quoted(text)}.")


def check(options: Mapping[str, Any]) -> None:
    """Refuse numbers outside of their range, and numbers that are not finite; raises UsageError with the range."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if name == "max_steps" and value != -1 and not COUNT.allows(value):
            raise UsageError(f"max_steps must be 1 or more, or -1 for complete epochs, not {value}.")
        shown = f"{value:g}" if isinstance(value, float) or value.bit_length() < 64 else "a huge number"
        if not isinstance(value, int) and not math.isfinite(value):
            raise UsageError(f"{name} must be a finite number, not {shown}.")
        largest = LARGEST_INTEGER if isinstance(value, int) else LARGEST_NUMBER
        allowed = RANGES.get(name, Range(-largest, largest))
        if value > largest and allowed.highest >= LARGEST_NUMBER:
            raise UsageError(f"{name} must be at most {largest:.10g}, not {shown}.")
        if not allowed.allows(value):
            raise UsageError(f"{name} must be {allowed}, not {shown}.")
