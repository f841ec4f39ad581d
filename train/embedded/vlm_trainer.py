"""The training state of the embedded VLM: one optimizer step at a time, saved and resumed."""

from pathlib import Path

import torch
from transformers import Qwen3VLProcessor

from geoclick import devices
from geoclick.train.embedded import training_state
from geoclick.train.embedded.lessons import Batch
from geoclick.train.embedded.optimizers import matrix_and_other
from geoclick.train.embedded.processor import SPECIAL
from geoclick.train.embedded.vlm_losses import WEIGHTS, losses
from geoclick.train.embedded.vlm_model import auxiliary_heads, build_model, load_weights
from geoclick.train.embedded.vlm_options import EmbeddedVlmOptions


class VlmTrainer:
    """The model with its auxiliary heads, optimizers and schedules; resumes from the run folder's state, if any.

    Attributes:
        model: the model that is trained.
        step: number of finished steps.
    """

    def __init__(self, options: EmbeddedVlmOptions, processor: Qwen3VLProcessor) -> None:
        self.folder, self.processor = Path(options.output), processor
        self.device = devices.choose(options.device)
        tokenizer = processor.tokenizer
        special = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
        self.model = build_model(len(tokenizer), special)
        if options.start_from and not (self.folder / training_state.STATE).exists():
            load_weights(self.model, Path(options.start_from), tokenizer)
        self.model.to(self.device)
        self.model.set_attn_implementation("eager")  # twice as fast with short sequences in bfloat16 on a CPU
        self.heads = auxiliary_heads().to(self.device)
        self.parameters = [*self.model.parameters(), *self.heads.parameters()]
        print(f"{sum(p.numel() for p in self.model.parameters()):,} parameters, {len(tokenizer)} tokens")
        vision, language = self.model.model.visual, self.model.model.language_model
        self.optimizers = matrix_and_other(
            [vision.blocks, vision.merger, vision.deepstack_merger_list, language.layers],
            self.parameters,
            learning_rate=options.learning_rate,
            weight_decay=0.01,
            single_precision=not devices.has_bfloat16(self.device),
        )
        self.schedules = training_state.one_cycle(self.optimizers, options.learning_rate, options.steps)
        self.step = int(training_state.resume(self.folder, self._stateful(), {"step": 0})["step"])

    def _stateful(self) -> dict[str, training_state.Stateful]:
        models = {"model": self.model, "heads": self.heads}
        return training_state.stateful(models, self.optimizers, self.schedules)

    def save(self) -> None:
        """Write the state and the model with its processor."""
        training_state.save(self.folder, self._stateful(), {"step": self.step})
        training_state.save_model(self.model, self.processor, self.folder / "model")

    def train_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Run one optimizer step and return the losses by name."""
        batch = {name: values.to(self.device, non_blocking=True) for name, values in batch.items()}
        in_half = devices.has_bfloat16(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=in_half):
            by_name = losses(self.model, self.heads, batch)
        weighted = (WEIGHTS[name] * loss for name, loss in by_name.items())
        loss = sum(weighted, torch.zeros((), device=self.device))
        training_state.optimize(loss, self.parameters, self.optimizers, self.schedules)
        self.step += 1
        return by_name
