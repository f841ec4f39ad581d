"""The steps that `geoclick train sft` and `geoclick train grpo` share, from the first check to the saved adapter."""

import json
import os
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from geoclick import files
from geoclick.train.loop import checkpoints, checks

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from geoclick.options import SegmenterOptions


def prepare_process() -> None:
    """Set up the environment before the model libraries are imported."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Deprecations inside the libraries, which users cannot fix.
    warnings.filterwarnings("ignore", category=FutureWarning)


def check_output(output: Path, *, resume: bool) -> None:
    """Refuse an output folder that holds a run, unless it is resumed, or that cannot be written to."""
    if not resume:
        checkpoints.check_fresh(output)
    checks.check_writable(output)


def resolve(
    options: "SegmenterOptions", trl_options: dict[str, Any], arguments: "TrainingArguments"
) -> dict[str, Any]:
    """All options as values of YAML: GeoClick's, and those of TRL that were given or have a default of GeoClick's."""
    values = asdict(options) | {key: getattr(arguments, key) for key in trl_options}
    values.pop("dry_run", None)
    values = {key: getattr(value, "value", value) for key, value in values.items()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def start(
    output: Path, arguments: "TrainingArguments", resolved: dict[str, Any], *, resume: bool
) -> Path | None:
    """Write config.yaml, and return the checkpoint to resume from, or None.

    Raises:
        UsageError: the checkpoint belongs to a run with other options or another launcher.
    """
    checkpoint = checkpoints.last_complete(output, arguments.world_size) if resume else None
    if checkpoint:
        checkpoints.check_same(output, resolved)
        checkpoints.check_launcher(checkpoint, deepspeed=arguments.deepspeed_plugin is not None)
    if arguments.process_index == 0:
        files.write_whole(output / "config.yaml", yaml.safe_dump(resolved, sort_keys=False))
    return checkpoint


def train(trainer: "Trainer", output: Path, checkpoint: Path | None) -> float:
    """Train and save the adapter; returns the seconds of training. Errors are GeoClickErrors of one sentence."""
    began = time.perf_counter()
    with checkpoints.readable_errors(output):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds = time.perf_counter() - began
        trainer.save_model(str(output))
    return seconds


def write_metrics(output: Path, metrics: dict[str, Any]) -> None:
    """Write metrics.json."""
    files.write_whole(output / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def shutdown(trainer: "Trainer") -> None:
    """End the process group once all processes are done: one that leaves earlier can make the others abort."""
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.state.destroy_process_group()
