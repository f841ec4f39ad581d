"""The options of `geoclick train grpo`: those of GeoClick, and any of TRL's GRPOConfig, in one flat file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoclick.config import option
from geoclick.datasets import BUILT_IN, root_of, selection
from geoclick.errors import UsageError
from geoclick.jobs import processes
from geoclick.options import DatasetOptions, DecodingOptions
from geoclick.train.options import early_checks
from geoclick.train.options.compute import ComputeOptions
from geoclick.train.options.dry_run import DryRunOptions
from geoclick.train.options.evaluation import EvaluationOptions
from geoclick.train.options.trl_options import Check, TrlCommand

NAME = "train grpo"
EXAMPLE = (
    "geoclick train grpo --config configs/grpo/embedded.yaml "
    "--adapter runs/lora --root runs/scenes --output runs/grpo"
)
DESCRIPTION = (
    "Train an adapter that writes clicks with GRPO, rewarded for the masks that the frozen segmenter makes of them.\n"
    "Any option of TRL's GRPOConfig (learning_rate, num_generations, temperature, beta, max_steps, ...) may be given\n"
    "too, in the file or as a flag; docs/training_options.md says which ones work, differ here or are refused."
)


@dataclass(frozen=True, kw_only=True)
class GrpoOptions(DryRunOptions, EvaluationOptions, ComputeOptions, DecodingOptions, DatasetOptions):
    """The options of GeoClick; all others belong to GRPOConfig."""

    adapter: str = option(help="adapter folder of geoclick train to start from")
    output: str = option(help="folder for the adapter, checkpoints, config.yaml and metrics.json")
    split: str = option("train", help="split of the dataset")
    limit: int | None = option(
        None, help="size of a random pick of the split's samples, which depends on --seed", minimum=1
    )
    first: int | None = option(None, help="only the first samples of the split", minimum=1)
    vlm: str | None = option(None, help="the adapter's base model, if it has moved since training")
    iou_weight: float = option(1.0, help="weight of the mask's IoU with the target", minimum=0)
    format_weight: float = option(0.1, help="weight of an answer that needs no repair", minimum=0)
    economy_weight: float = option(0.02, help="weight of the IoU per click", minimum=0)
    no_target_weight: float = option(1.0, help='weight of a correct "no target" answer', minimum=0)
    feature_memory_gb: float = option(
        2.0,
        help="cache the features of the frozen vision tower if they fit in this memory; 0 never",
        minimum=0,
    )
    embedding_memory_gb: float = option(
        2.0, help="memory for the segmenter's image embeddings, which are cached from step to step", minimum=0
    )
    augment: tuple[str, ...] = option(
        (),
        help="augmentations of the images and their targets, different in every epoch",
        choices=("flip", "rotate", "crop"),
    )
    evaluate_split: str | None = option(
        None, help="split of the dataset to evaluate on (default: images held out from --split)"
    )
    constrained: bool = option(
        False,
        help="with use_vllm: sample answers in their format only; their regular expression is sent to vLLM",
    )
    resume: bool = option(False, help="resume from the last complete checkpoint in output, if there is one")

    def __post_init__(self) -> None:
        self.check_evaluation()
        if not any((self.iou_weight, self.format_weight, self.economy_weight, self.no_target_weight)):
            raise UsageError(
                "All weights of the reward are 0, so that nothing would be learned; give one above 0."
            )
        if self.evaluate_split is not None and not self.evaluate_every:
            raise UsageError("--evaluate-split has no effect without --evaluate-every; give that, too.")
        if self.evaluate_split == self.split:
            raise UsageError(
                f"--evaluate-split is the split of the training, {self.split}; remove it to hold images out of it."
            )


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
"""GeoClick's defaults; a file or a flag overrides them.

Rewards are not divided by their standard deviation within a group: if all masks of a group are alike, differences of
form would weigh as much as right and wrong in other groups.
"""


def check(options: GrpoOptions, optimizer: str) -> None:
    """Refuse an output, an adapter or a dataset before the model libraries are imported, and say what is loaded."""
    early_checks.check_output(Path(options.output), NAME, resume=options.resume)
    early_checks.check_adapter(options.adapter)
    options.check_name()
    selection.check(options.limit, options.first)
    options.reading()
    root = root_of(options.dataset, options.root)
    if options.dataset not in BUILT_IN:
        early_checks.check_root(root)
    processes.print_loading(f"the adapter {options.adapter}")
    # It imports PyTorch.
    from geoclick.vlms import adapter, bitsandbytes_import

    base = options.vlm or adapter.read_record(options.adapter).base
    bitsandbytes_import.leave_out(base, optimizer=optimizer)


COMMAND = TrlCommand(GrpoOptions, "GRPOConfig", f"geoclick {NAME}", DESCRIPTION, EXAMPLE, DEFAULTS)


def parse(
    argv: Sequence[str] | None, check: Check[GrpoOptions] | None = None
) -> tuple[GrpoOptions, dict[str, Any]]:
    """GeoClick's options, and those for GRPOConfig, from `--config` and flags; errors as in `TrlCommand.parse`."""
    options, trl_options = COMMAND.parse(argv, check)
    return options, DEFAULTS | trl_options
