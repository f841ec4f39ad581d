"""`geoclick train sft --dry-run`: a few steps of the run, to measure what it needs and to fail early.

The dry run of `geoclick train grpo` takes its measurements from here, too.

The trainer is that of the run, under any launcher. It takes two steps on the longest rows or packs, where memory peaks:
in the second one the optimizer's state is there, too. The median of some steps on random ones is the time of a step.
Then it evaluates some held-out samples, if the run does. All output goes to a temporary folder. For a card that is not
here, memory and time are estimated instead.
"""

import atexit
import copy
import dataclasses
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
from geoclick.train.data import sources
from geoclick.train.data.training_data import TrainingData
from geoclick.train.loop import checks, dry_run_estimate
from geoclick.train.loop.dry_run_estimate import Counts, clock, giga
from geoclick.train.packing.packed_dataset import PackedDataset

if TYPE_CHECKING:
    from trl import SFTConfig

    from geoclick.train.loop.monitor import Monitor
    from geoclick.train.loop.trainer import ClickTrainer
    from geoclick.train.options.sft import SftOptions
    from geoclick.train.reinforcement.grpo_trainer import ClickGRPOTrainer

T = TypeVar("T")
C = TypeVar("C", bound=TrainingArguments)

MEASURED = 4
"""Steps that are timed."""

LONGEST = 2
"""Steps on the longest rows or packs, which are not timed."""


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

    def keys(self) -> list[list[int]] | list[list[Key]]:
        """The given packs, augmented as in the first epoch."""
        if isinstance(self.rows, AugmentedDataset):
            return [[(0, index) for index in pack] for pack in self.given]
        return self.given


class OrderedDataset(AugmentedDataset):
    """Augmented rows, not shuffled."""

    def keys(self) -> list[Key]:
        """The rows as they are in the first epoch, in order."""
        return [(0, index) for index in range(len(self))]


class PeakMemory:
    """The largest memory of a while.

    Attributes:
        peak: largest number of bytes, on the GPU or, on the CPU, of this process.
        before: bytes in use at its start.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.peak = self.before = 0

    def start(self) -> None:
        """Begin to measure."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
        else:
            self.before = self.peak = process_memory()
            self.done = threading.Event()
            self.thread = threading.Thread(target=self._sample, daemon=True)
            self.thread.start()

    def stop(self) -> None:
        """Set the peak."""
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device)
        else:
            self.done.set()
            self.thread.join()

    def _sample(self) -> None:
        while not self.done.wait(0.005):
            self.peak = max(self.peak, process_memory())


class StepMeasurement(TrainerCallback):  # type: ignore[misc]
    """Measures the time of each step and the memory of those on the longest rows.

    Attributes:
        seconds: of each step, with loading its data.
        longest: number of the first steps, whose memory is measured.
        memory: of these.
    """

    def __init__(self, device: torch.device, longest: int = LONGEST) -> None:
        self.device, self.longest = device, longest
        self.seconds: list[float] = []
        self.memory = PeakMemory(device)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the measurement."""
        self.memory.start()
        self.began = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record the time of the step and, after the longest ones, their peak."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds.append(now - self.began)
        if len(self.seconds) == self.longest:
            self.memory.stop()
        self.began = time.perf_counter()


def added(memory: PeakMemory) -> str:
    """What a while added to the memory, and of how much, as text."""
    return (
        f"{giga(memory.peak - memory.before)} to {giga(memory.before)}: {giga(memory.peak)} "
        f"of {giga(total_memory(memory.device))}"
    )


def process_memory() -> int:
    """Bytes of memory that this process uses."""
    return psutil.Process().memory_info().rss


def without_output(arguments: C) -> C:
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
    options: "SftOptions",
    arguments: "SFTConfig",
    monitor: "Monitor | None",
) -> list[str]:
    """Run the steps, or estimate them for a card, and return the lines of the report.

    Args:
        trainer: the run's, not yet started, with the config of `without_output`.
        data: of the run.
        trainable: number of trained weights by tower.
        options: GeoClick's, of the run; nothing is written to its output folder.
        arguments: the run's own config.
        monitor: the evaluation during training, or None.

    Raises:
        GeoClickError: an image is broken, or the disk of the output folder is too full.
    """
    lengths = data.rows.token_lengths(trainer.processing_class, data.augmentation)
    weights = sum(trainable.values())
    _, epoch_steps, _, _, step_size, _, steps = trainer.set_initial_training_values(
        arguments, trainer.get_train_dataloader()
    )
    evaluations = evaluations_of(arguments, monitor, steps)
    checkpoints = checkpoints_on_disk(arguments, epoch_steps, steps, evaluations)
    needed, free = checks.check_space(Path(options.output), weights=weights, checkpoints=checkpoints)
    lines = {"rows": rows_line(data), "tokens a row": quantiles(lengths)}
    lines |= {f"source {n}": line for n, line in enumerate(sources.lines(data.sources, data.mixture), 1)}
    if data.packed:
        lines["packs"] = f"{len(data.packed):,} an epoch, {data.packed.plan.filled:.0%} filled"
    lines |= {
        "trainable": trainable_line(trainer.model, trainable),
        "steps": f"{epoch_steps:,} an epoch, {steps:,} in all, on {arguments.world_size} process(es)",
    }
    counts = Counts(steps, step_size, evaluations)
    if options.estimates:
        lines |= dry_run_estimate.lines(trainer, data, lengths, counts, options, arguments, monitor)
    else:
        lines |= measured_lines(trainer, data, lengths, counts, monitor)
    lines["disk"] = f"up to {giga(needed)} for checkpoints and adapter, {giga(free)} free"
    return [f"{name:<13} {value}" for name, value in lines.items()]


def measured_lines(
    trainer: "ClickTrainer",
    data: TrainingData,
    lengths: Sequence[int],
    counts: Counts,
    monitor: "Monitor | None",
) -> dict[str, str]:
    """Memory and time of training and evaluation, measured on this machine."""
    measured = measure_steps(trainer, data, lengths, counts.step_size)
    device, memory = trainer.args.device, measured.memory
    step = statistics.median(measured.seconds[LONGEST:])
    lines = {
        "memory": f"measured: base weights {giga(base_bytes(trainer.model))}; two steps on the longest "
        f"{'pack' if data.packed else 'rows'}, the optimizer's state included, add "
        f"{added(memory)}",
        "time": f"measured: {step:.2f} s a step on {device.type} (median of {MEASURED}), "
        f"{clock(step * counts.steps)} for all steps",
    }
    return lines | evaluation_lines(trainer, monitor, counts, step)


def evaluation_lines(
    trainer: "ClickTrainer | ClickGRPOTrainer", monitor: "Monitor | None", counts: Counts, step: float
) -> dict[str, str]:
    """The time of the evaluations, measured on one batch in each process, and that of the run.

    Args:
        trainer: of the run.
        monitor: the evaluation during training; None gives no lines.
        counts: of the run.
        step: seconds of a step.
    """
    if monitor is None:
        return {}
    some, seconds, peak = measure_evaluation(trainer, monitor)
    each = seconds * len(monitor.samples) / some
    return {
        "evaluation": f"measured on {some} of {len(monitor.samples)} samples: {each:.1f} s each with the answers of a "
        f"model that has just started, {clock(each * counts.evaluations)} for all {counts.evaluations}; peak "
        f"{giga(peak)}",
        "in all": clock(step * counts.steps + each * counts.evaluations),
    }


def measure_evaluation(
    trainer: "ClickTrainer | ClickGRPOTrainer", monitor: "Monitor"
) -> tuple[int, float, int]:
    """Evaluate one batch of samples in each process: their number, the seconds, and the peak of the memory in bytes."""
    count = min(len(monitor.samples), monitor.batch_size * trainer.args.world_size)
    part = dataclasses.replace(monitor, samples=monitor.samples[:count])
    memory = PeakMemory(trainer.args.device)
    trainer.model.eval()
    memory.start()
    began = time.perf_counter()
    with trainer.accelerator.autocast():
        part.evaluate(trainer.model, trainer.args.process_index, trainer.args.world_size)
    seconds = time.perf_counter() - began
    memory.stop()
    return count, seconds, memory.peak


def evaluations_of(arguments: TrainingArguments, monitor: "Monitor | None", steps: int) -> int:
    """The number of evaluations of a run that does not stop early."""
    if monitor is None:
        return 0
    first = -(-max(int(arguments.eval_delay), 1) // monitor.every)
    return max(steps // monitor.every - first + 1, 0) + int(arguments.eval_on_start)


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
    """Train on the longest rows or packs, and on others; the weights are discarded.

    Args:
        trainer: the run's.
        data: of the run.
        lengths: tokens of each row.
        step_size: rows, or packs, of a step.
    """
    batches = LONGEST + MEASURED
    if data.packed:
        units = data.packed.plan.packs(0)
        total = [sum(lengths[index] for index in unit) for unit in units]
    else:
        order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0))
        units = [[index] for index in order.tolist()]
        total = [lengths[unit[0]] for unit in units]
    longest = sorted(range(len(units)), key=lambda index: -total[index])[:step_size]
    chosen = [units[index] for index in cycled(longest, step_size)] * LONGEST
    chosen += cycled(units, step_size * MEASURED)
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
    return measured


def cycled(values: Sequence[T], count: int) -> list[T]:
    """The first `count` of the values, repeated if there are fewer."""
    return [values[index % len(values)] for index in range(count)]


def checkpoints_on_disk(
    arguments: TrainingArguments, epoch_steps: int, steps: int, evaluations: int = 0
) -> int:
    """The largest number of checkpoints at once: one more than the limit, until the oldest is removed."""
    strategy = str(getattr(arguments.save_strategy, "value", arguments.save_strategy))
    limit = arguments.save_total_limit
    if strategy == "best":
        return min(evaluations, limit + 1) if limit else evaluations
    every = {"no": steps + 1, "epoch": epoch_steps}.get(strategy)
    if every is None:
        every = (
            arguments.save_steps if arguments.save_steps >= 1 else max(1, int(arguments.save_steps * steps))
        )
    saved = steps // int(every)
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
