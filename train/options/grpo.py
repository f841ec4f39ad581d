"""The options of `geoclick train grpo`: ours, and beside them any of TRL's GRPOConfig, in one flat file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geoclick.config import option
from geoclick.options import DatasetOptions, DecodingOptions
from geoclick.train.options.sft import Command, parse_beside

EXAMPLE = (
    "geoclick train grpo --config configs/grpo/embedded.yaml "
    "--adapter runs/lora --root runs/scenes --output runs/grpo"
)
DESCRIPTION = (
    "Reinforce an adapter that writes clicks: it is rewarded for the masks that the frozen segmenter makes of them.\n"
    "Any option of TRL's GRPOConfig (learning_rate, num_generations, temperature, beta, max_steps, ...) may stand\n"
    "beside these, in the file or as a flag."
)


@dataclass(frozen=True, kw_only=True)
class GrpoOptions(DecodingOptions, DatasetOptions):
    """What GeoClick itself asks for; the rest belongs to GRPOConfig."""

    adapter: str = option(help="adapter folder of geoclick train that it starts from")
    output: str = option(help="folder for the adapter, checkpoints, config.yaml and metrics.json")
    split: str = option("train", help="split of the dataset")
    limit: int | None = option(None, help="only the first samples of the split", minimum=1)
    vlm: str | None = option(None, help="the adapter's base, where it lies elsewhere than at training time")
    iou_weight: float = option(1.0, help="of the mask's IoU with the target", minimum=0)
    format_weight: float = option(0.1, help="of an answer that needs no repair", minimum=0)
    economy_weight: float = option(0.02, help="of the IoU per click", minimum=0)
    no_target_weight: float = option(1.0, help="of saying so where there is no target", minimum=0)
    feature_memory_gb: float = option(
        2.0, help="keep the frozen vision tower's features in memory if they fit in this; 0 never", minimum=0
    )
    embedding_memory_gb: float = option(
        2.0, help="memory for the segmenter's encoded images, which are kept from step to step", minimum=0
    )
    resume: bool = option(False, help="go on from the last whole checkpoint in output, if there is one")


DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-5,
    "num_train_epochs": 1.0,
    "per_device_train_batch_size": 8,
    "num_generations": 8,
    "temperature": 1.0,
    "beta": 0.0,
    "scale_rewards": "none",
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.03,
    "logging_steps": 5,
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "gradient_checkpointing": False,
    "disable_dropout": True,
    "report_to": "none",
    "dataloader_pin_memory": False,
}
"""Where we differ from GRPOConfig's own defaults, or agree and it should be seen; a file or a flag overrides them.

Rewards are not scaled by their deviation within a group: where all masks are alike, or all are wrong, what differs by
form only would weigh as much as right and wrong elsewhere.
"""

OURS = {
    "output_dir": "output",
    "resume_from_checkpoint": "resume",
    "model_init_kwargs": "vlm",
    "reward_weights": "iou_weight, format_weight, economy_weight and no_target_weight",
    "chat_template_kwargs": None,
    "trust_remote_code": None,
    "remove_unused_columns": None,
    "use_transformers_continuous_batching": None,
    "sync_ref_model": None,
    "log_multimodal": None,
    "do_train": None,
    "do_eval": None,
    "eval_strategy": None,
    "push_to_hub": None,
}
"""Options of GRPOConfig that GeoClick sets itself or cannot serve, and the option to use instead."""

GRPO = Command(GrpoOptions, "GRPOConfig", "geoclick train grpo", DESCRIPTION, EXAMPLE, OURS)


def parse(argv: Sequence[str] | None) -> tuple[GrpoOptions, dict[str, Any]]:
    """Our options, and those for GRPOConfig, from `--config` and flags; errors as in `parse_beside`."""
    options, trl_options = parse_beside(GRPO, argv)
    return options, DEFAULTS | trl_options
