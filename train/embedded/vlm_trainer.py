"""The training state of the embedded VLM: one optimizer step at a time, saved and resumed."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import OneCycleLR
from transformers import Qwen3VLProcessor

from geoclick import devices
from geoclick.train.embedded.lessons import Batch
from geoclick.train.embedded.optimizers import matrix_and_other
from geoclick.train.embedded.processor import SPECIAL
from geoclick.train.embedded.vlm_losses import WEIGHTS, losses
from geoclick.train.embedded.vlm_model import auxiliary_heads, build_model
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
        self.model = build_model(len(tokenizer), special).to(self.device)
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
        self.step = 0
        if (self.folder / "state.pt").exists():
            self._resume()

    def _stateful(self) -> dict[str, Any]:
        """Everything with a state to save, by its key in state.pt."""
        parts = {"model": self.model, "heads": self.heads}
        parts |= {f"optimizer{i}": optimizer for i, optimizer in enumerate(self.optimizers)}
        parts |= {f"schedule{i}": schedule for i, schedule in enumerate(self.schedules)}
        return parts

    def _resume(self) -> None:
        state = torch.load(self.folder / "state.pt", map_location="cpu", weights_only=True)
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
        self.step = state["step"]

    def save(self) -> None:
        """Write the state, to a temporary name and then renamed, and the model (half precision) with its processor."""
        state = {"step": self.step} | {name: part.state_dict() for name, part in self._stateful().items()}
        torch.save(state, self.folder / "state.partial")
        (self.folder / "state.partial").replace(self.folder / "state.pt")
        copy.deepcopy(self.model).half().save_pretrained(self.folder / "model")
        self.processor.save_pretrained(self.folder / "model")

    def train_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Run one optimizer step and return the losses by name."""
        batch = {name: values.to(self.device, non_blocking=True) for name, values in batch.items()}
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            by_name = losses(self.model, self.heads, batch)
        weighted = (WEIGHTS[name] * loss for name, loss in by_name.items())
        sum(weighted, torch.zeros((), device=self.device)).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer, schedule in zip(self.optimizers, self.schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return by_name
