"""The steps that `geoclick train sft` and `geoclick train grpo` share, from the first check to the saved adapter."""

import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from geoclick import files, output_folder, secrets
from geoclick.command import interruption, print_next
from geoclick.errors import GeoClickError, UsageError
from geoclick.train.data import image_hashes
from geoclick.train.loop import checkpoints, error_reports, resumption

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from geoclick.options import SegmenterOptions
    from geoclick.vlms.adapter import AdapterRecord


def prepare_process() -> None:
    """Set up the environment before the model libraries are imported."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Deprecations inside the libraries, which users cannot fix.
    warnings.filterwarnings("ignore", category=FutureWarning)


@contextmanager
def opened(output: Path, command: str, arguments: "TrainingArguments", *, resume: bool) -> Iterator[None]:
    """Hold the output folder for a block, so that no other command writes it; process 0 does so for all.

    Raises:
        UsageError: another command is writing the folder or has made it, or it holds a run that is not resumed.
        GeoClickError: the block was interrupted.
    """
    if arguments.process_index:
        yield
        return
    with output_folder.opened(output, command):
        if not resume:
            resumption.check_fresh(output)
        try:
            yield
        except KeyboardInterrupt as error:
            raise GeoClickError(
                f"{interruption(error)}; rerun the command with --resume to continue from the last checkpoint."
            ) from None


def resolve(
    options: "SegmenterOptions", trl_options: dict[str, Any], arguments: "TrainingArguments"
) -> dict[str, Any]:
    """All options as values of YAML: GeoClick's, and those of TRL that were given or have a default of GeoClick's.

    Options that hold a secret are left out: the trainer has them from its arguments.
    """
    from geoclick.train.options import trl_arguments

    values = asdict(options) | {key: getattr(arguments, key) for key in trl_options}
    values |= {key: trl_options[key] for key in trl_arguments.PUSH if key in trl_options}
    values.pop("dry_run", None)
    values = {key: getattr(value, "value", value) for key, value in values.items()}
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    public: dict[str, Any] = secrets.without_secrets(values)
    return public


def start(
    output: Path,
    command: str,
    arguments: "TrainingArguments",
    resolved: dict[str, Any],
    record: "AdapterRecord",
    images: Mapping[str, Path],
    *,
    resume: bool,
    any_division: bool = False,
) -> Path | None:
    """Write config.yaml and the hashes of the images, and return the checkpoint to resume from, or None.

    Args:
        output: the run's folder.
        command: the command's name.
        arguments: TRL's config of the run.
        resolved: all options of the run, which are written.
        record: the provenance of the run.
        images: all images that the run reads, by name.
        resume: continue the run in `output`, if there is one.
        any_division: as in `resumption.check`.

    Raises:
        GeoClickError: all checkpoints are damaged.
        UsageError: the run in `output` cannot be continued with these options, data, images or processes.
    """
    checkpoint = None
    if resume:
        checkpoint, skipped = resumption.latest(output)
        if checkpoint:
            resumption.check(output, checkpoint, arguments, resolved, record, any_division=any_division)
        if arguments.process_index == 0:
            for sentence in skipped:
                print(f"warning: {sentence}", flush=True)
            if checkpoint and (before := checkpoints.processes(checkpoint)) != arguments.world_size:
                print(
                    f"{checkpoint} was written by another number of processes ({before}, now {arguments.world_size}): "
                    "each step has the same rows, only dropout differs.",
                    flush=True,
                )
    hashes = image_hashes.of(images)
    if checkpoint:
        resumption.check_images(output, hashes)
    if arguments.process_index == 0:
        header = output_folder.header(command)
        files.write_whole(output / "config.yaml", header + yaml.safe_dump(resolved, sort_keys=False))
        image_hashes.write(output, hashes)
    return checkpoint


def train(trainer: "Trainer", output: Path, checkpoint: Path | None) -> float:
    """Train and save the adapter; returns the seconds of training.

    Raises:
        GeoClickError: an error of one sentence.
        UsageError: accelerate ignores that FSDP is asked for, as it does on CPUs.
    """
    from geoclick.train.options import trl_arguments

    if trl_arguments.uses_fsdp(trainer.args) and not trainer.is_fsdp_enabled:
        raise UsageError(
            "accelerate has no FSDP for CPUs and would train with DDP; launch with accelerate_configs/cpu2.yaml, or on "
            "GPUs."
        )
    if checkpoint:
        trainer.record = resumption.continued(trainer.record, checkpoint)
    began = time.perf_counter()
    with (
        error_reports.reported_once(output, trainer.accelerator.wait_for_everyone),
        replaceable_images(output),
        checkpoints.readable_errors(output),
    ):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds = time.perf_counter() - began
        trainer.save_model(str(output))
    return seconds


@contextmanager
def replaceable_images(output: Path) -> Iterator[None]:
    """Let a run that ends at a broken image resume with another file in its place."""
    try:
        yield
    except GeoClickError as error:
        image_hashes.leave_out_broken(output, str(error))
        raise


def write_metrics(output: Path, metrics: dict[str, Any]) -> None:
    """Write metrics.json, and its figures to the model card."""
    from geoclick.train.publishing import adapter_folder

    files.write_whole(output / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    adapter_folder.write_card(output, output.name)


def check_push(trl_options: dict[str, Any]) -> None:
    """Refuse a name that no repository of the hub can have; raises UsageError."""
    from geoclick.train.publishing import hub

    if trl_options.get("push_to_hub"):
        hub.check_name(str(trl_options["hub_model_id"]), "hub_model_id")


def push(output: Path, trl_options: dict[str, Any]) -> None:
    """Push a finished run with its card, if `push_to_hub` asks for it; only process 0 may call it.

    Raises:
        GeoClickError: the hub refuses; the run is complete.
    """
    from geoclick.train import card
    from geoclick.train.publishing import hub, provenance

    if not trl_options.get("push_to_hub"):
        return
    name = str(trl_options["hub_model_id"])
    model = provenance.read(output)
    card.write(output, model, [], name=name.rpartition("/")[2], hub_name=name, license=None)
    print(f"pushed: {hub.push(output, name, private=bool(trl_options.get('hub_private_repo')))}")


def report(trainer: "Trainer", output: Path, metric: str, root: str, *, pushed: bool) -> None:
    """Print the last value of a metric or its best evaluation, what was written, and the next commands."""
    from geoclick.train.loop.monitor import METRIC

    log = trainer.state.log_history
    evaluations = [entry for entry in log if METRIC in entry]
    logged = [entry[metric] for entry in log if metric in entry]
    if evaluations:
        best = max(evaluations, key=lambda entry: entry[METRIC])
        print(
            f"best of {len(evaluations)} evaluations: mIoU {best[METRIC]:.3f} at step {best['step']}, saved"
        )
    elif logged:
        print(f"{metric}: {float(logged[0]):.3f} at first, {float(logged[-1]):.3f} at last")
    print(f"adapter: {output}\ncurves: {output / 'metrics.json'}")
    data, evaluated = ["--root", root, "--split", "test"], f"{output}-evaluated"
    print_next("evaluate", *data, "--adapter", output, "--output", evaluated)
    if trainer.args.hub_model_id and not pushed:
        print_next("card", output, "--evaluation", evaluated, "--push", trainer.args.hub_model_id)


def shutdown(trainer: "Trainer") -> None:
    """End the process group once all processes are done: one that leaves earlier can make the others abort."""
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.state.destroy_process_group()
