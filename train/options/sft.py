"""The options of `geoclick train sft`: those of GeoClick, and any of TRL's SFTConfig, in one flat file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoclick.clicks import ANSWER_ENDS
from geoclick.config import option
from geoclick.errors import UsageError
from geoclick.jobs import processes
from geoclick.options import SegmenterOptions, VlmOptions
from geoclick.train.loop.cards import CARDS
from geoclick.train.options import early_checks
from geoclick.train.options.trl_options import Check, TrlCommand
from geoclick.vlms import bitsandbytes_import

NAME = "train sft"
HERE = "here"
"""The dry run on this machine."""
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
class SftOptions(VlmOptions, SegmenterOptions):
    """The options of GeoClick; all others belong to SFTConfig."""

    clicks: str = option(help="click store made by 'geoclick synth'")
    root: str = option(help="folder that the store's image paths are relative to")
    output: str = option(help="folder for the adapter, checkpoints, config.yaml and metrics.json")
    revision: str | None = option(None, help="branch, tag or commit of a hub model")
    answer_format: str = option("compact", help="format of the answers", choices=("compact", "json"))
    max_clicks: int = option(6, help="largest number of clicks of an answer", minimum=1)
    answer_end: str = option(
        "best",
        help="click of the store that ends an answer: best, after which the IoU is highest, or last",
        choices=ANSWER_ENDS,
    )
    min_iou: float = option(0.0, help="leave out rows whose stored mask has a lower IoU", minimum=0)
    allow_contradictions: bool = option(
        False, help="train although many rows have the same image and query, and different targets"
    )
    loss_average: str = option(
        "tokens",
        help="mean of the loss over the answers' tokens, or over samples: with tokens an answer of six clicks weighs "
        "about 25 times as much as 'none', with samples the same",
        choices=("tokens", "samples"),
    )
    lora_r: int = option(32, help="LoRA rank", minimum=1)
    lora_alpha: int = option(64, help="LoRA scale: the update is multiplied by alpha / rank", minimum=1)
    lora_dropout: float = option(0.0, help="dropout of LoRA", minimum=0)
    use_dora: bool = option(False, help="decompose weights into magnitude and direction (DoRA)")
    use_rslora: bool = option(False, help="scale by alpha / sqrt(rank) instead")
    tune: tuple[str, ...] = option(
        ("language_model",), help="towers that get LoRA", choices=("language_model", "projector", "vision")
    )
    projector_lr: float | None = option(
        None, help="learning rate of the projector (default: learning_rate)", minimum=0
    )
    vision_lr: float | None = option(
        None, help="learning rate of the vision tower (default: learning_rate)", minimum=0
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
        help="cache the features of the frozen vision tower if they fit in this memory; 0 never",
        minimum=0,
    )
    evaluate_every: int = option(
        0,
        help="steps between evaluations on held-out samples; the best adapter is saved; 0 never",
        minimum=0,
    )
    evaluate_samples: int = option(
        96,
        help="smallest number of held-out samples; all samples of an image are held out together",
        minimum=1,
    )
    evaluate_clicks: str | None = option(
        None, help="click store of another split to evaluate on (default: images held out from --clicks)"
    )
    patience: int = option(
        0, help="stop after this many evaluations without a better mIoU; 0 never", minimum=0
    )
    resume: bool = option(False, help="resume from the last complete checkpoint in output, if there is one")
    dry_run: str | None = option(
        None,
        help="check everything, print what the run would need, and write nothing: here, after a few steps, or "
        "estimated for a card",
        choices=(HERE, *CARDS),
        bare=HERE,
    )

    def __post_init__(self) -> None:
        for tower in self.tower_lr:
            if tower not in self.tune:
                raise UsageError(
                    f"--{tower}-lr is given but {tower} is not tuned; name it in --tune, or remove the flag."
                )
        if self.other_format_share > 1:
            raise UsageError(f"--other-format-share is a fraction, 0 to 1, not {self.other_format_share}.")

    @property
    def tower_lr(self) -> dict[str, float]:
        """The learning rates of towers with their own."""
        given = {"projector": self.projector_lr, "vision": self.vision_lr}
        return {tower: lr for tower, lr in given.items() if lr is not None}

    @property
    def estimates(self) -> bool:
        """Whether the dry run is for a card that is not here."""
        return self.dry_run in CARDS

    @property
    def constant_features(self) -> bool:
        """Whether the vision tower's output for an image is the same throughout the run."""
        return set(self.tune) == {"language_model"} and not set(self.augment) & {"flip", "rotate", "crop"}

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
    for clicks in filter(None, (options.clicks, options.evaluate_clicks)):
        early_checks.check_store(clicks)
    early_checks.check_root(options.root)
    if not options.quantise:
        bitsandbytes_import.leave_out(options.vlm, optimizer=optimizer)
    processes.print_loading(f"the click store {options.clicks}, and {options.vlm}")


COMMAND = TrlCommand(SftOptions, "SFTConfig", f"geoclick {NAME}", DESCRIPTION, EXAMPLE, DEFAULTS)


def parse(
    argv: Sequence[str] | None, check: Check[SftOptions] | None = None
) -> tuple[SftOptions, dict[str, Any]]:
    """GeoClick's options, and those for SFTConfig, from `--config` and flags; errors as in `TrlCommand.parse`."""
    options, trl_options = COMMAND.parse(argv, check)
    own_order = options.packing_tokens or options.augments
    if own_order and trl_options.get("train_sampling_strategy", "random") != "random":
        raise UsageError(
            "packing_tokens, augment and other_format_share define an order of their own; "
            "remove train_sampling_strategy."
        )
    if options.packing_tokens:
        if trl_options.get("per_device_train_batch_size", 1) != 1:
            raise UsageError(
                "With packing_tokens a batch is one pack: set per_device_train_batch_size to 1, "
                "and choose its size by packing_tokens."
            )
        trl_options["per_device_train_batch_size"] = 1
    return options, DEFAULTS | trl_options
