"""Training several variants in turns: one trains for some steps while the others wait, each in its own loop."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import Trainer, TrainerCallback


class OtherVariantFailed(RuntimeError):
    """Raised in the waiting threads when another one has failed."""


class RoundRobin:
    """Lets several threads run one at a time, in order."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.turn = 0
        self.failed = False
        self.condition = threading.Condition()

    def wait(self, place: int) -> None:
        """Block until it is the turn of thread `place`; raises OtherVariantFailed."""
        with self.condition:
            self.condition.wait_for(lambda: self.failed or self.turn % self.count == place)
            if self.failed:
                raise OtherVariantFailed

    def end_turn(self) -> None:
        """Let the next thread run."""
        with self.condition:
            self.turn += 1
            self.condition.notify_all()

    @contextmanager
    def last_turn(self) -> Iterator[None]:
        """Let the next thread run after the block; if the block fails, wake all threads with an error."""
        try:
            yield
        except BaseException:
            with self.condition:
                self.failed = True
                self.condition.notify_all()
            raise
        self.end_turn()


@dataclass
class Measurement:
    """What a variant did in its timed turns; tokens are counted as tensors, to avoid GPU synchronization.

    Attributes:
        seconds: wall-clock time.
        cpu_seconds: CPU time of this process, which depends less on the load of the machine.
        samples: number of rows.
        tokens: number of tokens without padding.
        padded_tokens: number of tokens with padding.
        patches: number of patches that the vision tower encoded.
        peak: peak GPU memory in bytes, without that of the other variants.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    samples: int = 0
    tokens: int | torch.Tensor = 0
    padded_tokens: int = 0
    patches: int = 0
    peak: int = 0

    def count(self, batch: dict[str, Any]) -> None:
        """Add a batch of the model's inputs."""
        bounds = batch.get("cu_seq_lens")
        self.samples += len(batch["input_ids"]) if bounds is None else len(bounds) - 1
        self.tokens += batch["attention_mask"].sum()
        self.padded_tokens += batch["input_ids"].numel()
        self.patches += len(batch["pixel_values"]) if "pixel_values" in batch else 0


@dataclass
class Variant:
    """One of the compared trainings.

    Attributes:
        name: its name on the command line.
        trainer: ready to train; its `max_steps` is the number of steps of all turns.
        memory: GPU memory of its weights in bytes.
        measurement: of the timed turns.
    """

    name: str
    trainer: Trainer
    memory: int
    measurement: Measurement = field(default_factory=Measurement)


class TurnCallback(TrainerCallback):  # type: ignore[misc]
    """Lets a variant train in its turns only, and measures all but the first turn.

    Args:
        variant: the variant.
        place: of its thread.
        turns: shared by all threads.
        steps: of a turn.
        device: that the variant trains on.
    """

    def __init__(
        self, variant: Variant, place: int, turns: RoundRobin, steps: int, device: torch.device
    ) -> None:
        self.variant, self.place, self.turns, self.steps, self.device = variant, place, turns, steps, device
        self.cuda = device.type == "cuda"

    def _start_turn(self) -> None:
        self.turns.wait(self.place)
        if self.cuda:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            own = self.variant.memory + self._optimizer_memory()
            self.memory_of_others = torch.cuda.memory_allocated(self.device) - own
        self.start, self.cpu_start = time.perf_counter(), time.process_time()

    def _optimizer_memory(self) -> int:
        optimizer = self.variant.trainer.optimizer
        states = optimizer.state.values() if optimizer else ()
        return sum(v.nbytes for state in states for v in state.values() if hasattr(v, "nbytes"))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Wait for the first turn."""
        self._start_turn()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure a finished turn and wait for the next one."""
        if state.global_step % self.steps:
            return
        if self.cuda:
            torch.cuda.synchronize(self.device)
        if state.global_step == self.steps:
            self._start_measuring()
        else:
            measurement = self.variant.measurement
            measurement.seconds += time.perf_counter() - self.start
            measurement.cpu_seconds += time.process_time() - self.cpu_start
            if self.cuda:
                peak = torch.cuda.max_memory_allocated(self.device) - self.memory_of_others
                measurement.peak = max(measurement.peak, peak)
        if state.global_step < state.max_steps:
            self.turns.end_turn()
            self._start_turn()

    def _start_measuring(self) -> None:
        measurement = self.variant.measurement = Measurement()

        def count(model: torch.nn.Module, arguments: tuple[Any, ...], batch: dict[str, Any]) -> None:
            measurement.count(batch)

        self.variant.trainer.model.register_forward_pre_hook(count, with_kwargs=True)


def train_interleaved(variants: Sequence[Variant], *, steps: int, device: torch.device) -> None:
    """Train all variants, each in its own thread, one at a time.

    Args:
        variants: the variants.
        steps: number of steps of a turn.
        device: of the training.
    """
    turns = RoundRobin(len(variants))

    def train(place: int, variant: Variant) -> None:
        with turns.last_turn():
            variant.trainer.add_callback(TurnCallback(variant, place, turns, steps, device))
            variant.trainer.train()

    with ThreadPoolExecutor(len(variants)) as pool:
        running = [pool.submit(train, place, variant) for place, variant in enumerate(variants)]
    errors = [error for future in running if (error := future.exception())]
    causes = [error for error in errors if not isinstance(error, OtherVariantFailed)]
    if errors:
        raise (causes or errors)[0]
