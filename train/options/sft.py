"""The options of `geoclick train sft`: those of GeoClick, and any of TRL's SFTConfig, in one flat file."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoclick.clicks import ANSWER_ENDS
from geoclick.config import option
from geoclick.errors import UsageError
from geoclick.jobs import processes
from geoclick.options import SegmenterOptions
from geoclick.train.data import task_weights
from geoclick.train.options import early_checks, lora
from geoclick.train.options.compute import ComputeOptions
from geoclick.train.options.dry_run import DryRunOptions
from geoclick.train.options.evaluation import EvaluationOptions
from geoclick.train.options.lora import TOWERS, LoraOptions
from geoclick.train.options.mixture import MixtureOptions, Source, sources_of
from geoclick.train.options.trl_options import Check, TrlCommand
from geoclick.vlms import bitsandbytes_import
from geoclick.vlms.families import tower_of

NAME = "train sft"
EMBEDDED = "embedded"
EXAMPLE = (
    "geoclick train sft --config configs/sft/embedded.yaml "
    "--clicks runs/clicks --root runs/scenes --output runs/lora"
)
DESCRIPTION = (
    "LoRA-tune a Qwen-VL to write clicks. Any option of TRL's SFTConfig (learning_rate, num_train_epochs,\n"
    "per_device_train_batch_size, save_steps, report_to, ...) may be given too, in the file or as a flag;\n"
    "docs/training_options.md says which ones work, differ here or are refused."
)


@dataclass(frozen=True, kw_only=True)
class SftOptions(
    DryRunOptions, EvaluationOptions, MixtureOptions, LoraOptions, ComputeOptions, SegmenterOptions
):
    """The options of GeoClick; all others belong to SFTConfig."""

    output: str = option(help="folder for the adapter, checkpoints, config.yaml and metrics.json")
    vlm: str = option(
        "", help="embedded, a hub id, or a local folder (default: embedded, or the base of --adapter)"
    )
    min_pixels: int | None = option(
        None, help="smallest area of a resized image in pixels (default: the checkpoint's)", minimum=1
    )
    max_pixels: int | None = option(
        None, help="largest area of a resized image in pixels (default: the checkpoint's)", minimum=1
    )
    revision: str | None = option(None, help="branch, tag or commit of a hub model")
    answer_format: str = option(
        "",
        help="format of the answers (default: compact, or that of --adapter)",
        choices=("compact", "json"),
    )
    max_clicks: int = option(6, help="largest number of clicks of an answer", minimum=1)
    answer_end: str = option(
        "best",
        help="click of the store that ends an answer: best, after which the IoU is highest, or last",
        choices=ANSWER_ENDS,
    )
    min_iou: float = option(
        0.0, help="leave out rows whose stored mask has a lower IoU", minimum=0, maximum=1
    )
    allow_contradictions: bool = option(
        False, help="train although many rows have the same image and query, and different targets"
    )
    loss_average: str = option(
        "tokens",
        help="mean of the loss over the answers' tokens, or over samples: with tokens an answer of six clicks weighs "
        "about 25 times as much as 'none', with samples the same",
        choices=("tokens", "samples"),
    )
    task_weights: tuple[str, ...] = option(
        (),
        help="weights of the losses of answers without a click, of one part and of several parts, as TASK=WEIGHT, such "
        "as none=0.5 one=1 several=2; only their ratios count (default: all 1)",
    )
    quantise: str | None = option(
        None, help="load the frozen language model in 4 bits (QLoRA, with bitsandbytes)", choices=("nf4",)
    )
    augment: tuple[str, ...] = option(
        (),
        help="augmentations, different in every epoch",
        choices=("flip", "rotate", "crop", "jitter", "shuffle"),
    )
    other_format_share: float = option(0.0, help="fraction of rows in the other answer format", minimum=0)
    packing_tokens: int | None = option(
        None, help="pack samples into sequences of this many tokens; none or 0 pads batches", minimum=0
    )
    feature_memory_gb: float = option(
        2.0,
        help="cache the features of the frozen vision tower, as memory-mapped files, if they take no more; 0 never",
        minimum=0,
    )
    evaluate_clicks: str | None = option(
        None, help="click store of another split to evaluate on (default: images held out from --clicks)"
    )
    evaluate_root: str | None = option(
        None, help="folder of the images of --evaluate-clicks (default: the first --root)"
    )
    resume: bool = option(False, help="resume from the last complete checkpoint in output, if there is one")

    def __post_init__(self) -> None:
        self.check_evaluation()
        if self.other_format_share > 1:
            raise UsageError(f"--other-format-share is a fraction, 0 to 1, not {self.other_format_share}.")

    @property
    def sources(self) -> list[Source]:
        """What the run trains on."""
        return sources_of(self, self.answer_format)

    @property
    def evaluated(self) -> list[Source]:
        """The click stores that it is evaluated on."""
        if self.evaluate_clicks:
            root = self.evaluate_root or self.root[0]
            return [Source("evaluated", self.evaluate_clicks, root, self.answer_format, None)]
        return [source for source in self.sources if not source.is_chats]

    @property
    def constant_features(self) -> bool:
        """Whether the vision tower's output for an image is the same throughout the run.

        `modules_to_save` must be full names.
        """
        trains_vision = set(self.trained_towers) != {"language_model"} or any(
            tower_of(f"{name}.weight") in TOWERS[1:] for name in self.modules_to_save
        )
        return not trains_vision and not set(self.augment) & {"flip", "rotate", "crop"}

    @property
    def augments(self) -> bool:
        """Whether rows differ from epoch to epoch."""
        return bool(self.augment) or self.other_format_share > 0


DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-4,
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "logging_steps": 10,
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "gradient_checkpointing": False,
    "report_to": "none",
    "dataloader_pin_memory": False,
}
"""GeoClick's defaults where they differ from those of SFTConfig; a file or a flag overrides them."""


def check(options: SftOptions, optimizer: str) -> None:
    """Refuse an output, a store or a dataset before the model libraries are imported, and say what is loaded."""
    early_checks.check_output(Path(options.output), NAME, resume=options.resume)
    options.check_name()
    early_checks.check_sources(options)
    if options.evaluate_clicks:
        early_checks.check_store(options.evaluate_clicks)
        early_checks.check_root(options.evaluate_root or options.root[0])
    if options.adapter:
        early_checks.check_adapter(options.adapter)
    base = base_of(options)
    if not options.quantise:
        bitsandbytes_import.leave_out(base, optimizer=optimizer)
    data = ", ".join([*options.clicks, *options.chats])
    processes.print_loading(
        f"the click store{'s' * (len(options.clicks) > 1)} {data}, and {options.adapter or base}"
    )


def base_of(options: SftOptions) -> str:
    """The base model as the user named it, now or when the adapter was trained."""
    if options.vlm or not options.adapter:
        return options.vlm or EMBEDDED
    # It imports PyTorch.
    from geoclick.vlms import adapter

    return adapter.read_record(options.adapter).base


def resolve(options: SftOptions) -> SftOptions:
    """The options with all defaults; raises UsageError for pixel limits other than the adapter's."""
    vlm, answer_format, revision = base_of(options), options.answer_format, options.revision
    if not options.adapter:
        return lora.resolve(dataclasses.replace(options, vlm=vlm, answer_format=answer_format or "compact"))
    from geoclick.vlms import adapter

    record = adapter.read_record(options.adapter)
    for key in ("min_pixels", "max_pixels"):
        given, trained = getattr(options, key), getattr(record, key)
        if given not in (None, trained):
            raise UsageError(
                f"The adapter was trained with {key} {trained}, not {given}; remove --{key.replace('_', '-')}."
            )
    if vlm == record.base:
        revision = revision or record.revision or None
    return lora.resolve(
        dataclasses.replace(
            options,
            vlm=vlm,
            revision=revision,
            answer_format=answer_format or record.answer_format,
            min_pixels=record.min_pixels,
            max_pixels=record.max_pixels,
        )
    )


COMMAND = TrlCommand(SftOptions, "SFTConfig", f"geoclick {NAME}", DESCRIPTION, EXAMPLE, DEFAULTS)


def parse(
    argv: Sequence[str] | None, check: Check[SftOptions] | None = None
) -> tuple[SftOptions, dict[str, Any]]:
    """GeoClick's options, and those for SFTConfig, from `--config` and flags; errors as in `TrlCommand.parse`."""
    options, trl_options = COMMAND.parse(argv, check)
    own_order = options.packing_tokens or options.augments
    strategy = trl_options.get("train_sampling_strategy", "random")
    if own_order and strategy != "random":
        raise UsageError(
            "packing_tokens, augment and other_format_share define an order of their own; "
            "remove train_sampling_strategy."
        )
    if options.weights and strategy == "sequential":
        raise UsageError("weights define an order of their own; remove train_sampling_strategy.")
    if options.task_weights:
        task_weights.parse(options.task_weights)
        if trl_options.get("loss_type") == "dft":
            raise UsageError("task_weights and loss_type dft do not go together; remove one of them.")
    if options.packing_tokens:
        if trl_options.get("per_device_train_batch_size", 1) != 1:
            raise UsageError(
                "With packing_tokens a batch is one pack: set per_device_train_batch_size to 1, "
                "and choose its size by packing_tokens."
            )
        trl_options["per_device_train_batch_size"] = 1
    return resolve(options), DEFAULTS | trl_options
