"""The options of `geoclick train sft`: ours, and beside them any of TRL's SFTConfig, in one flat file."""

import argparse
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from geoclick import config
from geoclick.config import option, unknown_key
from geoclick.errors import UsageError

EXAMPLE = (
    "geoclick train sft --config configs/sft/embedded.yaml "
    "--clicks runs/clicks --root runs/scenes --output runs/lora"
)
DESCRIPTION = (
    "LoRA-tune a Qwen-VL to write clicks. Any option of TRL's SFTConfig (learning_rate, num_train_epochs,\n"
    "per_device_train_batch_size, save_steps, report_to, ...) may stand beside these, in the file or as a flag."
)


@dataclass(frozen=True)
class Options:
    """What GeoClick itself asks for; the rest belongs to SFTConfig."""

    clicks: str = option(help="click store made by 'geoclick synth'")
    root: str = option(help="folder of the dataset that the store's images are relative to")
    output: str = option(help="folder for the adapter, checkpoints, config.yaml and metrics.json")
    vlm: str = option("embedded", help="embedded, a hub id, or a folder")
    revision: str | None = option(None, help="branch, tag or commit of a hub model")
    answer_format: str = option("compact", help="how clicks are written", choices=("compact", "json"))
    max_clicks: int = option(6, help="clicks of an answer at most", minimum=1)
    min_iou: float = option(0.0, help="leave out rows whose stored mask is worse than this IoU", minimum=0)
    min_pixels: int | None = option(
        None, help="least area of the resized image, else the checkpoint's", minimum=1
    )
    max_pixels: int | None = option(
        None, help="largest area of the resized image, else the checkpoint's", minimum=1
    )
    lora_r: int = option(32, help="rank", minimum=1)
    lora_alpha: int = option(64, help="scale; the update is multiplied by alpha / rank", minimum=1)
    lora_dropout: float = option(0.0, help="dropout before the update", minimum=0)
    use_dora: bool = option(False, help="decompose weights into magnitude and direction (DoRA)")
    use_rslora: bool = option(False, help="scale by alpha / sqrt(rank) instead")
    packing_tokens: int | None = option(
        None, help="fill sequences of this many tokens with samples; none or 0 pads batches", minimum=0
    )
    feature_memory_gb: float = option(
        2.0, help="keep the frozen vision tower's features in memory if they fit in this; 0 never", minimum=0
    )
    resume: bool = option(False, help="go on from the last whole checkpoint in output, if there is one")
    dry_run: bool = option(
        False,
        help="check everything, take a few steps, say what the run would take, and leave nothing behind",
    )


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
    "eval_strategy": None,
    "push_to_hub": None,
}
"""Options of SFTConfig that GeoClick sets itself, and the option to use instead."""


def parse(argv: Sequence[str] | None) -> tuple[Options, dict[str, Any]]:
    """Our options, and those for SFTConfig, from `--config` and flags.

    Raises:
        UsageError: an unknown key, with the nearest known one, or a value of the wrong type.
    """
    import sys

    words = list(sys.argv[1:] if argv is None else argv)
    ours, extra, path = _split(words)
    known = {f.name for f in fields(Options)}
    from_file = config.read_yaml(path) if path else {}
    flags = [word for key, value in from_file.items() if key in known for word in _as_flag(key, value)]
    options = config.parse(
        Options, [*flags, *ours], prog="geoclick train sft", description=DESCRIPTION, example=EXAMPLE
    )
    rest = {key: value for key, value in from_file.items() if key not in known}
    settings = _check(rest, path, known) | _check(extra, "the command line", known)
    return options, DEFAULTS | (_packed(settings) if options.packing_tokens else settings)


def _packed(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with one pack a batch; raises UsageError for what packing decides by itself."""
    if settings.get("per_device_train_batch_size", 1) != 1:
        raise UsageError(
            "With packing_tokens a batch is one pack: set per_device_train_batch_size to 1, "
            "and choose its size by packing_tokens."
        )
    if settings.get("train_sampling_strategy", "random") != "random":
        raise UsageError("packing_tokens has an order of its own; remove train_sampling_strategy.")
    return settings | {"per_device_train_batch_size": 1}


def _split(words: list[str]) -> tuple[list[str], dict[str, str], str | None]:
    """Our own flags as they stand, the others as key and text, and the path after `--config`."""
    known = {f.name for f in fields(Options)}
    known |= {f"no_{name}" for name in known} | {"debug", "help"}
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
            raise UsageError(f"{flag} takes one value; see 'geoclick train sft --help'.")
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
    return [f"{flag}={value}"]


def _check(given: dict[str, Any], where: str | None, known: set[str]) -> dict[str, Any]:
    """The given options of SFTConfig in their own types; raises UsageError for what is none."""
    if not given:
        return {}
    from transformers import HfArgumentParser
    from trl import SFTConfig

    class Parser(HfArgumentParser):
        def error(self, message: str) -> typing.NoReturn:
            raise UsageError(f"In {where}, {message}; see the documentation of TRL's SFTConfig.")

    names = [f.name for f in fields(SFTConfig) if f.init]
    for key in given:
        if key in OURS:
            instead = f"use {OURS[key]} instead" if OURS[key] else "remove it"
            raise UsageError(f"{key} in {where} is set by GeoClick; {instead}.")
        if key not in names:
            raise unknown_key(key, [*known, *(set(names) - set(OURS))], str(where))
    # Empty and nested values of a file have their types already; the parser knows texts only.
    done = {key: value for key, value in given.items() if value is None or isinstance(value, dict | list)}
    words = [f"--{key}={value}" for key, value in given.items() if key not in done]
    parser = Parser(SFTConfig, argument_default=argparse.SUPPRESS)
    parsed = parser.parse_args(words)
    return {key: done[key] if key in done else getattr(parsed, key) for key in given}
