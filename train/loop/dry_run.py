"""`geoclick train sft --dry-run`: a few steps of the run, to measure what it needs and to fail early.

The trainer is that of the run, under any launcher. It takes one step on the longest rows or packs, where memory peaks,
and some steps on random ones, whose median is the time of a step. All output goes to a temporary folder.
"""

import atexit
import copy
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from geoclick.train.augmentation.augmented_dataset import AugmentedDataset, Key
from geoclick.train.data.training_data import TrainingData
from geoclick.train.loop import checks
from geoclick.train.packing.packed_dataset import PackedDataset, token_lengths

if TYPE_CHECKING:
    from trl import SFTConfig

    from geoclick.train.loop.trainer import ClickTrainer

T = TypeVar("T")

MEASURED = 4
"""Steps that are timed."""


class FixedPacks(PackedDataset):
    """Given packs of the rows of a packed dataset, the same in every epoch."""

    def __init__(self, dataset: PackedDataset, packs: list[list[int]]) -> None:
        super().__init__(dataset.rows, dataset.plan)
        self.given = packs

    def __len__(self) -> int:
        """The number of packs."""
        return len(self.given)

    def packs(self) -> list[list[int]]:
        """The given packs."""
        return self.given


class OrderedDataset(AugmentedDataset):
    """Augmented rows, not shuffled."""

    def keys(self) -> list[Key]:
        """The rows as they are in the first epoch, in order."""
        return [(0, index) for index in range(len(self))]


class StepMeasurement(TrainerCallback):  # type: ignore[misc]
    """Measures the time of each step and the memory of the first one.

    Attributes:
        seconds: of each step, with loading its data.
        peak: largest number of bytes during the first step, on the GPU or, on the CPU, of this process.
        before: bytes in use before the first step.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []
        self.peak = self.before = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the measurement."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
        else:
            self.before = self.peak = process_memory()
            self.done = threading.Event()
            self.thread = threading.Thread(target=self._sample, daemon=True)
            self.thread.start()
        self.began = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record the time of the step and, after the first one, its peak."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds.append(now - self.began)
        if len(self.seconds) == 1:
            if self.device.type == "cuda":
                self.peak = torch.cuda.max_memory_allocated(self.device)
            else:
                self.done.set()
                self.thread.join()
        self.began = time.perf_counter()

    def _sample(self) -> None:
        while not self.done.wait(0.005):
            self.peak = max(self.peak, process_memory())


def process_memory() -> int:
    """Bytes of memory that this process uses."""
    return psutil.Process().memory_info().rss


def without_output(arguments: "SFTConfig") -> "SFTConfig":
    """A copy of the run's config without checkpoints and trackers, for a temporary folder."""
    arguments = copy.copy(arguments)
    folder = tempfile.mkdtemp(prefix="geoclick-dry-run-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    arguments.output_dir = arguments.logging_dir = folder
    arguments.report_to = []
    arguments.save_strategy = SaveStrategy.NO
    arguments.eval_on_start = False
    return arguments


def report(
    trainer: "ClickTrainer",
    data: TrainingData,
    trainable: dict[str, int],
    *,
    output: Path,
    arguments: "SFTConfig",
) -> list[str]:
    """Run the steps, and return the lines of the report.

    Args:
        trainer: the run's, not yet started, with the config of `without_output`.
        data: of the run.
        trainable: number of trained weights by tower.
        output: the run's folder; nothing is written to it.
        arguments: the run's own config.

    Raises:
        GeoClickError: an image is broken, or the disk of the output folder is too full.
    """
    longest = map(data.augmentation.longest, data.rows) if data.augmentation else data.rows
    lengths = token_lengths(longest, trainer.processing_class)
    weights = sum(trainable.values())
    _, epoch_steps, _, _, step_size, _, steps = trainer.set_initial_training_values(
        arguments, trainer.get_train_dataloader()
    )
    checkpoints = checkpoints_on_disk(arguments, epoch_steps, steps)
    needed, free = checks.check_space(output, weights=weights, checkpoints=checkpoints)
    measured = measure_steps(trainer, data, lengths, step_size)
    step = statistics.median(measured.seconds[1:])
    lines = {"rows": rows_line(data), "tokens a row": quantiles(lengths)}
    if data.packed:
        lines["packs"] = f"{len(data.packed):,} an epoch, {data.packed.plan.filled:.0%} filled"
    lines |= {
        "trainable": trainable_line(trainer.model, trainable),
        "steps": f"{epoch_steps:,} an epoch, {steps:,} in all, on {arguments.world_size} process(es)",
        "memory": f"base weights {giga(base_bytes(trainer.model))}; "
        f"LoRA gradients and optimizer {giga(12 * weights)}, estimated; "
        f"the step on the longest {'pack' if data.packed else 'rows'} adds "
        f"{giga(measured.peak - measured.before)} to {giga(measured.before)}: {giga(measured.peak)} "
        f"of {giga(total_memory(arguments.device))}",
        "time": f"{step:.2f} s a step on {arguments.device.type} (median of {MEASURED}), "
        f"{clock(step * steps)} in all",
        "disk": f"up to {giga(needed)} for checkpoints and adapter, {giga(free)} free",
    }
    return [f"{name:<13} {value}" for name, value in lines.items()]


def rows_line(data: TrainingData) -> str:
    """The number of rows, and of those left out by reason."""
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in data.left_out.items() if count)
    return f"{len(data.rows):,} ({'left out: ' + left_out if left_out else 'none left out'})"


def trainable_line(model: torch.nn.Module, trainable: dict[str, int]) -> str:
    """The number of trained weights, by tower, and their fraction of all weights."""
    weights = sum(trainable.values())
    frozen = sum(size(p) for p in model.parameters() if not p.requires_grad)
    towers = ", ".join(f"{name} {count:,}" for name, count in trainable.items())
    return f"{weights:,} weights ({towers}), {weights / (weights + frozen):.2%} of all"


def total_memory(device: torch.device) -> int:
    """Bytes of memory of a GPU, or of the machine on the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def measure_steps(
    trainer: "ClickTrainer", data: TrainingData, lengths: Sequence[int], step_size: int
) -> StepMeasurement:
    """Train one step on the longest rows or packs and `MEASURED + 1` steps on others; the weights are discarded.

    Args:
        trainer: the run's.
        data: of the run.
        lengths: tokens of each row.
        step_size: rows, or packs, of a step.
    """
    batches = 2 + MEASURED
    if data.packed:
        units = data.packed.plan.packs(0)
        total = [sum(lengths[index] for index in unit) for unit in units]
    else:
        order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0))
        units = [[index] for index in order.tolist()]
        total = [lengths[unit[0]] for unit in units]
    longest = sorted(range(len(units)), key=lambda index: -total[index])[:step_size]
    chosen = [units[index] for index in cycled(longest, step_size)]
    chosen += cycled(units, step_size * (batches - 1))
    if data.packed:
        trainer.train_dataset = FixedPacks(data.packed, chosen)
    elif data.augmentation:
        rows = data.rows.select([unit[0] for unit in chosen])
        trainer.train_dataset = OrderedDataset(rows, data.augmentation)
    else:
        trainer.train_dataset = data.rows.select([unit[0] for unit in chosen])
        trainer.args.train_sampling_strategy = "sequential"
    trainer.args.max_steps = batches
    measured = StepMeasurement(trainer.args.device)
    trainer.add_callback(measured)
    trainer.train()
    # The second step, too, may compile or allocate for the later ones.
    measured.seconds = [measured.seconds[0], *measured.seconds[2:]]
    return measured


def cycled(values: Sequence[T], count: int) -> list[T]:
    """The first `count` of the values, repeated if there are fewer."""
    return [values[index % len(values)] for index in range(count)]


def checkpoints_on_disk(arguments: "SFTConfig", epoch_steps: int, steps: int) -> int:
    """The largest number of checkpoints at once: one more than the limit, until the oldest is removed."""
    strategy = str(getattr(arguments.save_strategy, "value", arguments.save_strategy))
    every = {"no": steps + 1, "epoch": epoch_steps}.get(strategy)
    if every is None:
        every = (
            arguments.save_steps if arguments.save_steps >= 1 else max(1, int(arguments.save_steps * steps))
        )
    saved = steps // int(every)
    limit = arguments.save_total_limit
    return min(saved, limit + 1) if limit else saved


def size(parameter: torch.nn.Parameter) -> int:
    """Number of elements of a parameter, also if DeepSpeed ZeRO-3 has partitioned it."""
    return getattr(parameter, "ds_numel", parameter.numel())


def base_bytes(model: torch.nn.Module) -> int:
    """Bytes of a model's frozen weights, over all processes."""
    return sum(size(p) * p.element_size() for p in model.parameters() if not p.requires_grad)


def quantiles(lengths: Sequence[int]) -> str:
    """Smallest, median, 90th percentile and largest of some lengths, as text."""
    ordered = sorted(lengths)
    middle, high = (ordered[round(share * (len(ordered) - 1))] for share in (0.5, 0.9))
    return f"least {ordered[0]:,}, median {middle:,}, 90 % within {high:,}, most {ordered[-1]:,}"


def giga(count: float) -> str:
    """Bytes as text."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def clock(seconds: float) -> str:
    """Seconds as text."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
