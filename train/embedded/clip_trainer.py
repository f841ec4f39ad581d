"""The training state of the embedded CLIP: one optimizer step at a time, saved and resumed."""

import copy
import time
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from transformers import CLIPProcessor

from geoclick import devices
from geoclick.train.embedded.clip_batches import Batch
from geoclick.train.embedded.clip_evaluation import HeldOut, evaluate
from geoclick.train.embedded.clip_loss import WEIGHTS, losses
from geoclick.train.embedded.clip_model import build_model
from geoclick.train.embedded.clip_options import EmbeddedClipOptions
from geoclick.train.embedded.clip_processor import SPECIAL
from geoclick.train.embedded.optimizers import matrix_and_other


class ClipTrainer:
    """The model, its optimizers and schedules; resumes from the state in the run folder, if any.

    Attributes:
        model: the model that is trained.
        step: number of finished steps.
        seconds: time spent in them.
    """

    def __init__(self, options: EmbeddedClipOptions, processor: CLIPProcessor) -> None:
        self.options, self.folder, self.processor = options, Path(options.output), processor
        self.device = devices.choose(options.device)
        tokenizer = processor.tokenizer
        special = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
        torch.manual_seed(options.seed)
        self.model = build_model(len(tokenizer), special).to(self.device).train()
        self.optimizers = matrix_and_other(
            [self.model.vision_model.encoder.layers, self.model.text_model.encoder.layers],
            self.model.parameters(),
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            single_precision=True,
        )
        warmup = min(100, options.steps // 10)
        self.schedules = [
            OneCycleLR(
                optimizer,
                options.learning_rate,
                options.steps,
                pct_start=warmup / options.steps,
                cycle_momentum=False,
            )
            for optimizer in self.optimizers
        ]
        self.step, self.seconds = 0, 0.0
        if (self.folder / "state.pt").exists():
            self._resume()

    def _stateful(self) -> dict[str, torch.nn.Module | torch.optim.Optimizer | LRScheduler]:
        """Everything with a state to save, by its key in state.pt."""
        optimizers = {f"optimizer{i}": optimizer for i, optimizer in enumerate(self.optimizers)}
        schedules = {f"schedule{i}": schedule for i, schedule in enumerate(self.schedules)}
        return {"model": self.model, **optimizers, **schedules}

    def _resume(self) -> None:
        state = torch.load(self.folder / "state.pt", map_location="cpu", weights_only=True)
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        """Write the state, to a temporary name and then renamed, and the model (half precision) with its processor."""
        parts = {name: part.state_dict() for name, part in self._stateful().items()}
        state = {"step": self.step, "seconds": self.seconds, **parts}
        torch.save(state, self.folder / "state.partial")
        (self.folder / "state.partial").replace(self.folder / "state.pt")
        copy.deepcopy(self.model).half().save_pretrained(self.folder / "model")
        self.processor.save_pretrained(self.folder / "model")

    def train_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Run one optimizer step and return the losses by name."""
        started = time.monotonic()
        batch = {name: values.to(self.device, non_blocking=True) for name, values in batch.items()}
        by_name = losses(self.model, batch)
        weighted = (WEIGHTS[name] * loss for name, loss in by_name.items())
        sum(weighted, torch.zeros((), device=self.device)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer, schedule in zip(self.optimizers, self.schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.seconds += time.monotonic() - started
        return by_name

    def evaluate(self, held_out: HeldOut) -> dict[str, float]:
        """The figures of the current weights on held-out views, see `clip_evaluation.evaluate`."""
        return evaluate(self.model, self.processor.tokenizer, held_out)
