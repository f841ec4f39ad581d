"""The training state of the embedded CLIP: one optimizer step at a time, saved and resumed."""

import time
from pathlib import Path

import torch
from transformers import CLIPProcessor

from geoclick import devices
from geoclick.train.embedded import training_state
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
        self.schedules = training_state.one_cycle(self.optimizers, options.learning_rate, options.steps)
        numbers = training_state.resume(self.folder, self._stateful(), {"step": 0, "seconds": 0.0})
        self.step, self.seconds = int(numbers["step"]), numbers["seconds"]

    def _stateful(self) -> dict[str, training_state.Stateful]:
        models = {"model": self.model}
        return training_state.stateful(models, self.optimizers, self.schedules)

    def save(self) -> None:
        """Write the state and the model with its processor."""
        training_state.save(self.folder, self._stateful(), {"step": self.step, "seconds": self.seconds})
        training_state.save_model(self.model, self.processor, self.folder / "model")

    def train_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Run one optimizer step and return the losses by name."""
        started = time.monotonic()
        batch = {name: values.to(self.device, non_blocking=True) for name, values in batch.items()}
        by_name = losses(self.model, batch)
        weighted = (WEIGHTS[name] * loss for name, loss in by_name.items())
        loss = sum(weighted, torch.zeros((), device=self.device))
        training_state.optimize(loss, self.model.parameters(), self.optimizers, self.schedules)
        self.step += 1
        self.seconds += time.monotonic() - started
        return by_name

    def evaluate(self, held_out: HeldOut) -> dict[str, float]:
        """The figures of the current weights on held-out views, see `clip_evaluation.evaluate`."""
        return evaluate(self.model, self.processor.tokenizer, held_out)
