"""The options of `geoclick train sft`: ours, and beside them any of TRL's SFTConfig, in one flat file.

`parse_beside` reads those of any command that hands such a file on to one of TRL's trainers.
"""

import argparse
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from geoclick import config
from geoclick.config import option, unknown_key
from geoclick.errors import UsageError
from geoclick.options import SegmenterOptions, VlmOptions

EXAMPLE = (
    "geoclick train sft --config configs/sft/embedded.yaml "
    "--clicks runs/clicks --root runs/scenes --output runs/lora"
)
DESCRIPTION = (
    "LoRA-tune a Qwen-VL to write clicks. Any option of TRL's SFTConfig (learning_rate, num_train_epochs,\n"
    "per_device_train_batch_size, save_steps, report_to, ...) may stand beside these, in the file or as a flag."
)


@dataclass(frozen=True, kw_only=True)
class SftOptions(VlmOptions, SegmenterOptions):
    """What GeoClick itself asks for; the rest belongs to SFTConfig."""

    clicks: str = option(help="click store made by 'geoclick synth'")
    root: str = option(help="folder of the dataset that the store's images are relative to")
    output: str = option(help="folder for the adapter, checkpoints, config.yaml and metrics.json")
    revision: str | None = option(None, help="branch, tag or commit of a hub model")
    answer_format: str = option("compact", help="how clicks are written", choices=("compact", "json"))
    max_clicks: int = option(6, help="clicks of an answer at most", minimum=1)
    min_iou: float = option(0.0, help="leave out rows whose stored mask is worse than this IoU", minimum=0)
    lora_r: int = option(32, help="rank", minimum=1)
    lora_alpha: int = option(64, help="scale; the update is multiplied by alpha / rank", minimum=1)
    lora_dropout: float = option(0.0, help="dropout before the update", minimum=0)
    use_dora: bool = option(False, help="decompose weights into magnitude and direction (DoRA)")
    use_rslora: bool = option(False, help="scale by alpha / sqrt(rank) instead")
    tune: tuple[str, ...] = option(
        ("language_model",), help="towers that get LoRA", choices=("language_model", "projector", "vision")
    )
    projector_lr: float | None = option(
        None, help="learning rate of the projector, else learning_rate", minimum=0
    )
    vision_lr: float | None = option(
        None, help="learning rate of the vision tower, else learning_rate", minimum=0
    )
    quantise: str | None = option(
        None, help="keep the frozen language model in 4 bits (QLoRA, by bitsandbytes)", choices=("nf4",)
    )
    augment: tuple[str, ...] = option(
        (), help="change rows anew in every epoch", choices=("flip", "rotate", "crop", "jitter", "shuffle")
    )
    other_format_share: float = option(
        0.0, help="share of rows that are asked in the other answer format", minimum=0
    )
    packing_tokens: int | None = option(
        None, help="fill sequences of this many tokens with samples; none or 0 pads batches", minimum=0
    )
    feature_memory_gb: float = option(
        2.0, help="keep the frozen vision tower's features in memory if they fit in this; 0 never", minimum=0
    )
    evaluate_every: int = option(
        0,
        help="evaluate on held-out samples every so many steps, and keep the best adapter; 0 never",
        minimum=0,
    )
    evaluate_samples: int = option(96, help="held-out samples, all of whole images", minimum=1)
    evaluate_clicks: str | None = option(
        None, help="click store of another split to evaluate on; images of clicks are held out when none"
    )
    patience: int = option(0, help="stop after so many evaluations without a better mIoU; 0 never", minimum=0)
    resume: bool = option(False, help="go on from the last whole checkpoint in output, if there is one")
    dry_run: bool = option(
        False,
        help="check everything, take a few steps, say what the run would take, and leave nothing behind",
    )

    def __post_init__(self) -> None:
        for tower in self.tower_lr:
            if tower not in self.tune:
                raise UsageError(
                    f"--{tower}-lr is given but {tower} is not tuned; name it in --tune, or leave it out."
                )
        if self.other_format_share > 1:
            raise UsageError(f"--other-format-share is a share, 0 to 1, not {self.other_format_share}.")

    @property
    def tower_lr(self) -> dict[str, float]:
        """Learning rates of towers that have one of their own."""
        given = {"projector": self.projector_lr, "vision": self.vision_lr}
        return {tower: lr for tower, lr in given.items() if lr is not None}

    @property
    def knows_features(self) -> bool:
        """Whether what the vision tower says of an image stays the same throughout the run."""
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
"""Where we differ from SFTConfig's own defaults; a file or a flag overrides them."""

OURS = {
    "output_dir": "output",
    "resume_from_checkpoint": "resume",
    "model_init_kwargs": "vlm",
    "max_length": "max_pixels",
    "chat_template_path": None,
    "trust_remote_code": None,
    "remove_unused_columns": None,
    "completion_only_loss": None,
    "assistant_only_loss": None,
    "dataset_kwargs": None,
    "packing": None,
    "padding_free": None,
    "do_train": None,
    "do_eval": None,
    "eval_strategy": "evaluate_every",
    "eval_steps": "evaluate_every",
    "load_best_model_at_end": "evaluate_every",
    "metric_for_best_model": "evaluate_every",
    "push_to_hub": None,
}
"""SftOptions of SFTConfig that GeoClick sets itself, and the option to use instead."""


@dataclass(frozen=True)
class Command:
    """A command whose options stand beside those of a TRL trainer.

    Attributes:
        options: dataclass of our own.
        trl: name of TRL's class of arguments.
        prog: the command as the user types it.
        description: for `--help`.
        example: a command line that works.
        ours: options of TRL's that we set, and the option to use instead, or None.
    """

    options: type
    trl: str
    prog: str
    description: str
    example: str
    ours: dict[str, str | None]
    known: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", frozenset(f.name for f in fields(self.options)))


SFT = Command(SftOptions, "SFTConfig", "geoclick train sft", DESCRIPTION, EXAMPLE, OURS)


def parse(argv: Sequence[str] | None) -> tuple[SftOptions, dict[str, Any]]:
    """Our options, and those for SFTConfig, from `--config` and flags; errors as in `parse_beside`."""
    options, trl_options = parse_beside(SFT, argv)
    own_order = options.packing_tokens or options.augments
    if own_order and trl_options.get("train_sampling_strategy", "random") != "random":
        raise UsageError(
            "packing_tokens, augment and other_format_share have an order of their own; "
            "remove train_sampling_strategy."
        )
    return options, DEFAULTS | (_packed(trl_options) if options.packing_tokens else trl_options)


def parse_beside(command: Command, argv: Sequence[str] | None) -> tuple[Any, dict[str, Any]]:
    """The options of a command, and those that were given for TRL's class, from `--config` and flags.

    Raises:
        UsageError: an unknown key, with the nearest known one, or a value of the wrong type.
    """
    import sys

    words = list(sys.argv[1:] if argv is None else argv)
    ours, extra, path = _split(words, command)
    known = command.known
    from_file = config.read_yaml(path) if path else {}
    flags = [word for key, value in from_file.items() if key in known for word in _as_flag(key, value)]
    options = config.parse(
        command.options,
        [*flags, *ours],
        prog=command.prog,
        description=command.description,
        example=command.example,
    )
    rest = {key: value for key, value in from_file.items() if key not in known}
    return options, _check(rest, path, command) | _check(extra, "the command line", command)


def _packed(trl_options: dict[str, Any]) -> dict[str, Any]:
    """The trl_options with one pack a batch; raises UsageError for what packing decides by itself."""
    if trl_options.get("per_device_train_batch_size", 1) != 1:
        raise UsageError(
            "With packing_tokens a batch is one pack: set per_device_train_batch_size to 1, "
            "and choose its size by packing_tokens."
        )
    return trl_options | {"per_device_train_batch_size": 1}


def _split(words: list[str], command: Command) -> tuple[list[str], dict[str, str], str | None]:
    """Our own flags as they stand, the others as key and text, and the path after `--config`."""
    known = command.known | {f"no_{name}" for name in command.known} | {"debug", "help"}
    ours: list[str] = []
    extra: dict[str, str] = {}
    path = None
    groups: list[list[str]] = []
    for word in words:
        if word.startswith("--") or word == "-h" or not groups:
            groups.append([word])
        else:
            groups[-1].append(word)
    for flag, *values in groups:
        name, equals, value = flag.removeprefix("--").partition("=")
        key = name.replace("-", "_")
        if key in known or not flag.startswith("--"):
            ours += [flag, *values]
            continue
        values = [value, *values] if equals else values
        if len(values) > 1 or (key == "config" and not values):
            raise UsageError(f"{flag} takes one value; see '{command.prog} --help'.")
        if key == "config":
            path = values[0]
        else:
            extra[key] = values[0] if values else "true"
    return ours, extra, path


def _as_flag(key: str, value: Any) -> list[str]:
    """A key of the file as the flag that says the same."""
    flag = f"--{key.replace('_', '-')}"
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, list):
        return [flag, *map(str, value)] if value else []
    return [f"{flag}={value}"]


def _check(given: dict[str, Any], where: str | None, command: Command) -> dict[str, Any]:
    """The given options of TRL's class in their own types; raises UsageError for what is none."""
    if not given:
        return {}
    import trl
    from transformers import HfArgumentParser

    arguments, ours = getattr(trl, command.trl), command.ours

    class Parser(HfArgumentParser):
        def error(self, message: str) -> typing.NoReturn:
            raise UsageError(f"In {where}, {message}; see the documentation of TRL's {command.trl}.")

    names = [f.name for f in fields(arguments) if f.init]
    for key in given:
        if key in ours:
            instead = f"use {ours[key]} instead" if ours[key] else "remove it"
            raise UsageError(f"{key} in {where} is set by GeoClick; {instead}.")
        if key not in names:
            raise unknown_key(key, [*command.known, *(set(names) - set(ours))], str(where))
    # Empty and nested values of a file have their types already; the parser knows texts only.
    done = {key: value for key, value in given.items() if value is None or isinstance(value, dict | list)}
    words = [f"--{key}={value}" for key, value in given.items() if key not in done]
    parser = Parser(arguments, argument_default=argparse.SUPPRESS)
    parsed = parser.parse_args(words)
    return {key: done[key] if key in done else getattr(parsed, key) for key in given}
