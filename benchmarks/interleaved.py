"""Trainers that take turns: one trains for some steps while the others wait, each in its own training loop."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


class Turns:
    """Several threads, of which one works at a time, one after another."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.turn = 0
        self.failed = False
        self.condition = threading.Condition()

    def wait(self, place: int) -> None:
        """Sleep until it is the turn of the thread in this place; raises RuntimeError once another one failed."""
        with self.condition:
            self.condition.wait_for(lambda: self.failed or self.turn % self.count == place)
            if self.failed:
                raise RuntimeError("another way failed")

    def pass_on(self) -> None:
        """Let the next one work."""
        with self.condition:
            self.turn += 1
            self.condition.notify_all()

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Pass on when the block is done, and wake all when it fails."""
        try:
            yield
        except BaseException:
            with self.condition:
                self.failed = True
                self.condition.notify_all()
            raise
        self.pass_on()


@dataclass
class Count:
    """What a way did in its timed turns; tokens as tensors, so that counting waits for no GPU.

    Attributes:
        seconds: of all timed turns.
        cpu_seconds: of this process, which other work on the machine lengthens less.
        samples: rows.
        tokens: without padding.
        places: with it.
        patches: that the vision tower saw.
        peak: bytes of GPU memory at most, without what the other ways hold.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    samples: int = 0
    tokens: Any = 0
    places: int = 0
    patches: int = 0
    peak: int = 0

    def see(self, model: Any, args: tuple, batch: dict[str, Any]) -> None:
        """Count a batch on its way into the model: a forward pre-hook."""
        bounds = batch.get("cu_seq_lens")
        self.samples += len(batch["input_ids"]) if bounds is None else len(bounds) - 1
        self.tokens += batch["attention_mask"].sum()
        self.places += batch["input_ids"].numel()
        self.patches += len(batch["pixel_values"]) if "pixel_values" in batch else 0


@dataclass
class Way:
    """One of the things compared.

    Attributes:
        name: of `WAYS`.
        trainer: ready to train.
        held: bytes of GPU memory that its weights take.
        count: of the timed turns.
    """

    name: str
    trainer: Any
    held: int
    count: Count = field(default_factory=Count)


def turn_taker(way: Way, place: int, turns: Turns, steps: int, device: Any) -> Any:
    """A callback that works in its turns only, and times them."""
    import torch
    from transformers import TrainerCallback

    cuda = device.type == "cuda"

    class TurnTaker(TrainerCallback):
        def begin(self) -> None:
            turns.wait(place)
            if cuda:
                torch.cuda.synchronize(device)
                torch.cuda.reset_peak_memory_stats(device)
                self.others = torch.cuda.memory_allocated(device) - way.held - self.moments()
            self.began = time.perf_counter(), time.process_time()

        def moments(self) -> int:
            optimizer = way.trainer.optimizer
            state = optimizer.state.values() if optimizer else ()
            return sum(v.nbytes for moments in state for v in moments.values() if hasattr(v, "nbytes"))

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step % steps:
                return
            if cuda:
                torch.cuda.synchronize(device)
            seconds, cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
            peak = torch.cuda.max_memory_allocated(device) - self.others if cuda else 0
            if state.global_step == steps:
                way.count = Count()
                self.hook = way.trainer.model.register_forward_pre_hook(count_into(way), with_kwargs=True)
            else:
                way.count.seconds += seconds
                way.count.cpu_seconds += cpu
                way.count.peak = max(way.count.peak, peak)
            if state.global_step < state.max_steps:
                turns.pass_on()
                self.begin()

    return TurnTaker()


def count_into(way: Way) -> Any:
    """A forward pre-hook that counts the batches of a way."""
    return lambda model, args, kwargs: way.count.see(model, args, kwargs)


def take_turns(ways: Sequence[Way], *, steps: int, device: Any) -> None:
    """Train all ways, each in a thread of its own, one at a time.

    Args:
        ways: whose trainers know how many steps they take.
        steps: of a turn.
        device: that they train on.
    """
    turns = Turns(len(ways))

    def train(place: int, way: Way) -> None:
        with turns.ending():
            way.trainer.add_callback(turn_taker(way, place, turns, steps, device))
            way.trainer.train()

    with ThreadPoolExecutor(len(ways)) as pool:
        running = [pool.submit(train, place, way) for place, way in enumerate(ways)]
    errors = [done.exception() for done in running if done.exception()]
    first = [error for error in errors if str(error) != "another way failed"]
    if errors:
        raise (first or errors)[0]
