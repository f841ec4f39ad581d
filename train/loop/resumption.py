"""Which run may continue in an output folder, and from which of its checkpoints.

The rows of a step follow from the seed, the epoch and the step alone. A supervised run may therefore continue with
another number of processes if a step keeps its number of rows; only dropout then differs.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick import config, secrets
from geoclick.errors import GeoClickError, UsageError
from geoclick.train.data import image_hashes
from geoclick.train.loop import checkpoints
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from geoclick.vlms.adapter import AdapterRecord

Value = str | float | list[str] | None
Options = Mapping[str, Value]
"""The options of a run as values of YAML; those of the libraries may be nested."""

CHANGEABLE = frozenset({"resume", "allow_contradictions", "push_to_hub", "hub_model_id", "hub_private_repo"})
"""Options that a resumed run may change."""

LENGTH = ("num_train_epochs", "max_steps")
"""Options that it may raise, to train longer."""

EARLIER: Options = {
    "loss_average": "tokens",
    "answer_end": "last",
    "attn_implementation": "sdpa",
    "dtype": "auto",
    "evaluate_samples": 96,
}
"""What earlier versions did where they had no option, or the default of an option that then decides nothing."""

EARLIER_TILE = 1024
"""The default of `tile` in earlier versions, which now has none."""

BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")
"""Options that it may change if a step keeps its number of rows."""

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Batches:
    """How the rows of a step are divided.

    Attributes:
        processes: number of processes.
        per_process: rows or packs of one forward pass of a process.
        accumulated: forward passes of a step.
    """

    processes: int
    per_process: int
    accumulated: int

    @property
    def rows(self) -> int:
        """Rows or packs of a step."""
        return self.processes * self.per_process * self.accumulated


def check_fresh(output: Path) -> None:
    """Refuse a folder that already holds a run; raises UsageError with the two ways out."""
    if any(output.glob("checkpoint-*")) or (output / WEIGHTS).exists():
        raise UsageError(
            f"{output} already holds a run; add --resume to continue it, or give another --output."
        )


def check_unfinished(output: Path) -> None:
    """Refuse to resume a run that has ended and stored no checkpoint; raises UsageError."""
    if (output / WEIGHTS).exists() and not any(
        map(checkpoints.is_finished, checkpoints.newest_first(output))
    ):
        raise UsageError(
            f"The run in {output} has ended and has no checkpoint to resume from; give another --output."
        )


def latest(output: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint to resume from, and one sentence for each newer one that is skipped.

    Returns:
        The latest complete checkpoint; None if the run was interrupted before the first one.

    Raises:
        GeoClickError: all checkpoints are damaged.
    """
    skipped: list[str] = []
    broken = ""
    for folder in checkpoints.newest_first(output):
        if not checkpoints.is_finished(folder):
            skipped.append(f"{folder} is incomplete and is not used.")
        elif name := checkpoints.damage(folder):
            broken = broken or f"{folder} is damaged ({name} is missing or broken)"
            skipped.append(f"{folder} is damaged ({name} is missing or broken) and is not used.")
        else:
            return folder, skipped
    if broken:
        raise GeoClickError(
            f"{broken}, and there is no older checkpoint that is complete; restore it, or give another --output."
        )
    return None, skipped


def check(
    output: Path,
    checkpoint: Path,
    arguments: "TrainingArguments",
    resolved: Options,
    record: "AdapterRecord",
    *,
    any_division: bool,
) -> None:
    """Refuse to continue a run with other options, data, processes or another launcher.

    Args:
        output: the run's folder.
        checkpoint: to resume from.
        arguments: TRL's config of this session.
        resolved: all options of this session.
        record: the provenance of this session.
        any_division: whether the rows of a step may be divided otherwise over processes and passes.

    Raises:
        UsageError: naming what differs and how to continue.
    """
    from geoclick.vlms import adapter

    before = adapter.read_record(checkpoint)
    check_length(output, resolved)
    check_launcher(checkpoint, arguments)
    flexible = any_division and _can_divide(arguments) and not checkpoints.is_partitioned(checkpoint)
    changeable = {*CHANGEABLE, *LENGTH}
    check_same(output, resolved, changeable=changeable | {*BATCH} if flexible else changeable)
    old = _batches(checkpoints.processes(checkpoint), before.config)
    new = _batches(arguments.world_size, resolved)
    check_batches(checkpoint, old, new, flexible=flexible)
    check_data(output, before, record)


def check_length(output: Path, resolved: Options) -> None:
    """Refuse to resume a run for fewer epochs or steps than it was started with; raises UsageError."""
    before = config.read_yaml(output / "config.yaml")
    for key in LENGTH:
        old, new = (_number_of(options.get(key)) for options in (before, resolved))
        if key == "max_steps" and (old > 0) != (new > 0):
            raise UsageError(
                f"The run in {output} was started with{'' if old > 0 else 'out'} max_steps, which decides its length; "
                f"resume {'with' if old > 0 else 'without'} it, or give another --output."
            )
        if new < old:
            raise UsageError(
                f"The run in {output} was started with {key} {old:g}, not {new:g}; resume with {old:g} or, to train "
                "longer, with more."
            )


def continued(record: "AdapterRecord", checkpoint: Path) -> "AdapterRecord":
    """The record of a run that continues from a checkpoint, with the steps at which it was made longer."""
    from geoclick.vlms import adapter, adapter_runs

    before = adapter.read_record(checkpoint)
    is_longer = any(_number_of(record.config.get(key)) > _number_of(before.config.get(key)) for key in LENGTH)
    step = int(checkpoint.name.rpartition("-")[2]) if is_longer else None
    return adapter_runs.extended(record, before.runs[-1]["extended_at"] if before.runs else [], step)


def _number_of(value: Value | Yaml) -> float:
    return float(value) if isinstance(value, int | float) else -1.0


def check_same(output: Path, resolved: Options, changeable: Set[str]) -> None:
    """Refuse to resume with options other than those of the run; raises UsageError naming the first."""
    before = _translated(secrets.without_secrets(config.read_yaml(output / "config.yaml")))
    resolved = _translated(resolved)
    for key in sorted((before.keys() | resolved.keys()) - changeable):
        old, new = before.get(key), resolved.get(key)
        # An option that an earlier version did not have is off.
        if old != new and (key in before or new):
            raise UsageError(
                f"The run in {output} was started with {key} {old!r}, not {new!r}; "
                "resume with the same options, or give another --output."
            )


def _translated(options: Options) -> Options:
    """Options of this or an earlier version, in those of this version."""
    translated: dict[str, Value] = {**EARLIER, **options}
    if options.get("tile") == EARLIER_TILE:
        translated["tile"] = None
    if "limit" in options and "first" not in options:
        # A limit was the number of the first samples.
        translated |= {"first": options["limit"], "limit": None}
    return translated


def check_launcher(checkpoint: Path, arguments: "TrainingArguments") -> None:
    """Refuse the optimizer state of another launcher: of DeepSpeed, of FSDP, or of PyTorch; raises UsageError."""
    from geoclick.train.options.trl_arguments import uses_fsdp

    deepspeed, fsdp = arguments.deepspeed_plugin is not None, uses_fsdp(arguments)
    for name, before, now in (
        ("DeepSpeed", checkpoints.is_deepspeed(checkpoint), deepspeed),
        ("FSDP", checkpoints.is_fsdp(checkpoint), fsdp),
    ):
        if before != now:
            raise UsageError(
                f"{checkpoint} was written {'with' if before else 'without'} {name}; "
                "resume with the accelerate file that the run was started with, or give another --output."
            )


def check_batches(checkpoint: Path, old: Batches, new: Batches, *, flexible: bool) -> None:
    """Refuse a number of processes, or of rows in a step, that would change the rest of the run.

    Args:
        checkpoint: to resume from.
        old: of the session that wrote it.
        new: of this session.
        flexible: whether another number of processes is possible.

    Raises:
        UsageError: with both numbers and the options that keep the rows of a step.
    """
    if old.rows == new.rows if flexible else old.processes == new.processes:
        return
    before = f"{checkpoint} was written by {_number(old.processes)}"
    if not flexible:
        raise UsageError(
            f"{before}, but this run has {new.processes}; resume with {_number(old.processes)}, or give another "
            "--output."
        )
    ways = [] if old.processes == new.processes else [f"with {_number(old.processes)}"]
    if old.rows % (new.processes * new.per_process) == 0:
        ways.append(f"with --{BATCH[1]} {old.rows // (new.processes * new.per_process)}")
    elif old.rows % new.processes == 0:
        ways.append(f"with --{BATCH[0]} {old.rows // new.processes} --{BATCH[1]} 1")
    raise UsageError(
        f"{before} with {old.rows} rows or packs in a step, but this run has {_number(new.processes)} with {new.rows}; "
        f"resume {' or '.join([*ways, 'give another --output'])}."
    )


def check_data(output: Path, before: "AdapterRecord", now: "AdapterRecord") -> None:
    """Refuse to resume with other data, or from another adapter for GRPO; raises UsageError.

    Earlier versions did not record the data.
    """
    changed = None
    if before.data_sha256 and before.data_sha256 != now.data_sha256:
        named = [name for key in ("clicks", "chats") for name in _several(now.config.get(key))]
        changed = " or ".join(named) or now.config.get("root")
    elif before.config.get("adapter_sha256") != now.config.get("adapter_sha256"):
        changed = now.config.get("adapter")
    if changed:
        raise UsageError(
            f"{changed} has changed since the run in {output} was started; restore it, or give another --output."
        )


def check_images(output: Path, hashes: Mapping[str, str]) -> None:
    """Refuse to resume with images whose contents have changed; raises UsageError naming the first.

    Args:
        output: the run's folder.
        hashes: of the images now, see `image_hashes.of`.
    """
    before = image_hashes.read(output)
    changed = [name for name, digest in hashes.items() if before.get(name, digest) != digest]
    if changed:
        others = f" and {len(changed) - 1:,} other{'s' * (len(changed) > 2)} have" if changed[1:] else " has"
        raise UsageError(
            f"{changed[0]}{others} changed since the run in {output} was started; restore "
            f"{'them' if changed[1:] else 'it'}, or give another --output."
        )


def _several(value: Value) -> list[str]:
    """The values of an option that is a text if there is one."""
    return value if isinstance(value, list) else [str(value)] if value else []


def _can_divide(arguments: "TrainingArguments") -> bool:
    """Whether the rows of a step do not depend on how they are divided."""
    return (
        arguments.train_sampling_strategy in ("random", "sequential")
        and not arguments.dataloader_drop_last
        and arguments.accelerator_config.use_seedable_sampler
        and not arguments.accelerator_config.split_batches
    )


def _batches(processes: int, options: Options) -> Batches:
    numbers = [options.get(name) for name in BATCH]
    per_process, accumulated = (number if isinstance(number, int) else 1 for number in numbers)
    return Batches(processes, per_process, accumulated)


def _number(processes: int) -> str:
    return f"{processes} process{'' if processes == 1 else 'es'}"
