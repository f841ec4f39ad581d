"""`geoclick train sft --dry-run`: the run in a few steps, to say what it would take and to fail now instead of later.

The trainer is the run's own, under whatever launcher: it takes one step on the longest rows or packs, where memory
peaks, and some on rows as chance brings them, whose median is the time of a step. Everything is written to a temporary
folder.
"""

import atexit
import copy
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy

from geoclick.train.augmentation.augment import Augmentation
from geoclick.train.augmentation.augmented_dataset import Augmented, Key
from geoclick.train.loop import checks
from geoclick.train.packing import packs
from geoclick.train.packing.packs import Packs

MEASURED = 4
"""Steps whose time counts."""


@dataclass(frozen=True)
class Chosen:
    """Packs that are given, in place of a `train.packing.Packing`."""

    given: list[list[int]]

    @property
    def count(self) -> int:
        """Packs of an epoch."""
        return len(self.given)

    def packs(self, epoch: int) -> list[list[int]]:
        """The same in every epoch."""
        return self.given


class InOrder(Augmented):
    """Augmented rows in the order in which they are given."""

    def keys(self) -> list[Key]:
        """The rows as they are in the first epoch."""
        return [(0, index) for index in range(len(self))]


class Watch(TrainerCallback):
    """Times of steps, and the memory of the first one.

    Attributes:
        seconds: of each step, its data included.
        peak: bytes on the GPU, or of this process on the CPU, at most during the first step.
        before: bytes that were taken before the first step.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []
        self.peak = self.before = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start to measure."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
        else:
            self.before = self.peak = resident()
            self.done = threading.Event()
            self.thread = threading.Thread(target=self._sample, daemon=True)
            self.thread.start()
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One step further; the first one's peak is known."""
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
            self.peak = max(self.peak, resident())


def resident() -> int:
    """Bytes of memory that this process has."""
    return psutil.Process().memory_info().rss


def quiet(arguments: Any) -> Any:
    """A copy of the run's SFTConfig that leaves nothing behind: no checkpoint or tracker, a temporary folder."""
    arguments = copy.copy(arguments)
    folder = tempfile.mkdtemp(prefix="geoclick-dry-run-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    arguments.output_dir = arguments.logging_dir = folder
    arguments.report_to = []
    arguments.save_strategy = SaveStrategy.NO
    return arguments


def report(
    trainer: Any,
    *,
    output: Path,
    arguments: Any,
    rows: Any,
    left_out: dict[str, int],
    trainable: dict[str, int],
    augmentation: Augmentation | None,
) -> list[str]:
    """Take the steps, and return the lines that say what the run would be.

    Args:
        trainer: the run's, not yet started, writing to a temporary folder and to no tracker.
        output: the run's folder, where nothing is written.
        arguments: the run's own SFTConfig.
        rows: of `geoclick.train.data.rows.build`.
        left_out: their number by reason.
        trainable: numbers trained, by tower.
        augmentation: of the rows, which count by the most tokens that it may give them.

    Raises:
        GeoClickError: an image is broken, the output folder takes no files, or its disk too few.
    """
    longest = map(augmentation.longest, rows) if augmentation else rows
    lengths = packs.lengths(longest, trainer.processing_class)
    weights = sum(trainable.values())
    _, an_epoch, _, _, a_step, _, steps = trainer.set_initial_training_values(
        arguments, trainer.get_train_dataloader()
    )
    needed, free = checks.check_space(output, weights=weights, checkpoints=kept(arguments, an_epoch, steps))
    packed = trainer.train_dataset if isinstance(trainer.train_dataset, Packs) else None
    watch = rehearse(trainer, lengths, packed, a_step)
    step = statistics.median(watch.seconds[1:])
    device = arguments.device
    room = (
        torch.cuda.get_device_properties(device).total_memory
        if device.type == "cuda"
        else psutil.virtual_memory().total
    )
    frozen = sum(size(p) for p in trainer.model.parameters() if not p.requires_grad)
    tower = ", ".join(f"{name} {count:,}" for name, count in trainable.items())
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count)
    lines = {
        "rows": f"{len(rows):,} ({'left out: ' + dropped if dropped else 'none left out'})",
        "tokens a row": quantiles(lengths),
    }
    if packed:
        lines["packs"] = f"{len(packed):,} an epoch, {packed.packing.filled:.0%} filled"
    share = weights / (weights + frozen)
    lines |= {
        "trainable": f"{weights:,} weights ({tower}), {share:.2%} of all",
        "steps": f"{an_epoch:,} an epoch, {steps:,} in all, on {arguments.world_size} process(es)",
        "memory": f"base weights {giga(stored(trainer.model))}; LoRA gradients and optimizer {giga(12 * weights)}, "
        f"estimated; the step on the longest {'pack' if packed else 'rows'} adds {giga(watch.peak - watch.before)} "
        f"to {giga(watch.before)}: {giga(watch.peak)} of {giga(room)}",
        "time": f"{step:.2f} s a step on {device.type} (median of {MEASURED}), {clock(step * steps)} in all",
        "disk": f"up to {giga(needed)} for checkpoints and adapter, {giga(free)} free",
    }
    return [f"{name:<13} {value}" for name, value in lines.items()]


def rehearse(trainer: Any, lengths: Sequence[int], packed: Packs | None, a_step: int) -> Watch:
    """Train one step on the longest rows or packs, `MEASURED + 1` on others, and throw the weights away.

    Args:
        trainer: the run's.
        lengths: tokens of each row.
        packed: the rows in packs, or None.
        a_step: rows, or packs, of a step.
    """
    batches = 2 + MEASURED
    if packed:
        units = packed.packing.packs(0)
        total = [sum(lengths[index] for index in unit) for unit in units]
    else:
        order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0))
        units = [[index] for index in order.tolist()]
        total = [lengths[unit[0]] for unit in units]
    longest = sorted(range(len(units)), key=lambda index: -total[index])[:a_step]
    chosen = [*(units[index] for index in cycled(longest, a_step)), *cycled(units, a_step * (batches - 1))]
    if packed:
        trainer.train_dataset = Packs(packed.rows, Chosen(chosen))
    elif isinstance(trainer.train_dataset, Augmented):
        augmented = trainer.train_dataset
        trainer.train_dataset = InOrder(
            augmented.rows.select([unit[0] for unit in chosen]), augmented.augmentation
        )
    else:
        trainer.train_dataset = trainer.train_dataset.select([unit[0] for unit in chosen])
        trainer.args.train_sampling_strategy = "sequential"
    trainer.args.max_steps = batches
    watch = Watch(trainer.args.device)
    trainer.add_callback(watch)
    trainer.train()
    # The second step too may compile or allocate what later ones find.
    watch.seconds = [watch.seconds[0], *watch.seconds[2:]]
    return watch


def cycled(values: Sequence[Any], count: int) -> list[Any]:
    """The first `count` of the values, again from the start where they are fewer."""
    return [values[index % len(values)] for index in range(count)]


def kept(arguments: Any, an_epoch: int, steps: int) -> int:
    """Checkpoints that lie on the disk at once: one more than the limit, while the oldest is not yet removed."""
    strategy = str(getattr(arguments.save_strategy, "value", arguments.save_strategy))
    every = {"no": steps + 1, "epoch": an_epoch}.get(strategy)
    if every is None:
        every = (
            arguments.save_steps if arguments.save_steps >= 1 else max(1, int(arguments.save_steps * steps))
        )
    saved = steps // int(every)
    limit = arguments.save_total_limit
    return min(saved, limit + 1) if limit else saved


def size(parameter: torch.nn.Parameter) -> int:
    """Numbers in a parameter, whole even where DeepSpeed ZeRO-3 has partitioned it."""
    return getattr(parameter, "ds_numel", parameter.numel())


def stored(model: torch.nn.Module) -> int:
    """Bytes of a model's frozen weights, over all processes."""
    return sum(size(p) * p.element_size() for p in model.parameters() if not p.requires_grad)


def quantiles(lengths: Sequence[int]) -> str:
    """Least, median, 90th percentile and largest of some lengths."""
    ordered = sorted(lengths)
    middle, high = (ordered[round(share * (len(ordered) - 1))] for share in (0.5, 0.9))
    return f"least {ordered[0]:,}, median {middle:,}, 90 % within {high:,}, most {ordered[-1]:,}"


def giga(count: float) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def clock(seconds: float) -> str:
    """Seconds in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
