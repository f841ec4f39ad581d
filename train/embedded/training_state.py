"""The state of an embedded model's training: schedules, one optimizer step, and what a run folder holds of them."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from transformers import PreTrainedModel, ProcessorMixin

STATE = "state.pt"

Stateful = torch.nn.Module | torch.optim.Optimizer | LRScheduler


def one_cycle(optimizers: Iterable[torch.optim.Optimizer], rate: float, steps: int) -> list[LRScheduler]:
    """A schedule for each optimizer: warm-up to `rate` in at most 100 of `steps` steps, then cosine decay."""
    warmup = min(100, steps // 10)
    return [
        OneCycleLR(optimizer, rate, steps, pct_start=warmup / steps, cycle_momentum=False)
        for optimizer in optimizers
    ]


def optimize(
    loss: torch.Tensor,
    parameters: Iterable[torch.nn.Parameter],
    optimizers: Sequence[torch.optim.Optimizer],
    schedules: Sequence[LRScheduler],
) -> None:
    """One step of all optimizers and schedules, with gradients clipped to a norm of 1."""
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer, schedule in zip(optimizers, schedules, strict=True):
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)


def stateful(
    models: Mapping[str, torch.nn.Module],
    optimizers: Iterable[torch.optim.Optimizer],
    schedules: Iterable[LRScheduler],
) -> dict[str, Stateful]:
    """Everything with a state to save, by its key in the file."""
    return {
        **models,
        **{f"optimizer{i}": optimizer for i, optimizer in enumerate(optimizers)},
        **{f"schedule{i}": schedule for i, schedule in enumerate(schedules)},
    }


def save(folder: Path, parts: Mapping[str, Stateful], numbers: Mapping[str, float]) -> None:
    """Write the states of the parts with some numbers, to a temporary name and then renamed."""
    states = {name: part.state_dict() for name, part in parts.items()}
    partial = folder / "state.partial"
    torch.save({**numbers, **states}, partial)
    partial.replace(folder / STATE)


def resume(folder: Path, parts: Mapping[str, Stateful], numbers: Mapping[str, float]) -> dict[str, float]:
    """Load what `save` wrote into the parts and return its numbers; `numbers` as they are without such a file."""
    if not (folder / STATE).exists():
        return dict(numbers)
    state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return {name: state[name] for name in numbers}


def save_model(model: PreTrainedModel, processor: ProcessorMixin, folder: Path) -> None:
    """Write a model in half precision, with its processor."""
    copy.deepcopy(model).half().save_pretrained(folder)
    processor.save_pretrained(folder)
