"""TRL's SFTTrainer with a loss that does not depend on the number of processes, and provenance in what it saves."""

from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import PrinterCallback, TrainerCallback
from trl import SFTTrainer

from geoclick.vlms.adapter import AdapterRecord, write_record
from geoclick.vlms.families import TOWERS, tower_of
from train.checkpointing import TowerCheckpointing
from train.epochs import Augmented, EpochSampler
from train.packs import Packs


class ClickTrainer(SFTTrainer):
    """SFTTrainer for click answers.

    Args:
        record: provenance, written beside every adapter that is saved.
        train_on: the rows of `train_dataset` in packs or augmented, to train on those instead; None trains on
            batches of the rows as they are.
        tower_lr: learning rates of towers that have one of their own; the others have the run's.
    """

    def __init__(
        self,
        *args: Any,
        record: AdapterRecord,
        train_on: Packs | Augmented | None = None,
        tower_lr: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.record = record
        self.tower_lr = tower_lr or {}
        self._seen = 0
        if train_on is not None:
            # Only now: TRL looks at the columns of its rows.
            self.train_dataset = train_on
        # Qwen-VL says that it takes no `num_items_in_batch`, and Trainer would then average each process's mean loss,
        # however many answer tokens each has. TRL's loss divides by the count over all processes when it gets one.
        self.model_accepts_loss_kwargs = True
        self.remove_callback(PrinterCallback)
        self.add_callback(TowerCheckpointing())

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """One forward and backward pass; counts the samples of this process."""
        packed = "cu_seq_lens" in inputs
        self._seen += len(inputs["cu_seq_lens"]) - 1 if packed else len(inputs["input_ids"])
        return super().training_step(model, inputs, *args, **kwargs)

    def count_samples(self) -> int:
        """Samples seen by all processes since this start; every process must ask."""
        seen = torch.tensor([self._seen], device=self.accelerator.device)
        return int(self.accelerator.gather(seen).sum())

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if isinstance(self.train_dataset, Packs | Augmented):
            return EpochSampler(self.train_dataset)
        return super()._get_train_sampler(train_dataset)

    def create_optimizer(self, model: Any = None) -> Any:
        """The run's optimiser, with a group of its own for each tower that has its own learning rate.

        The language model's groups come first: theirs is the rate that is logged.
        """
        optimizer = super().create_optimizer(model)
        if self.tower_lr:
            model = self.model if model is None else model
            towers = {parameter: tower_of(name) for name, parameter in model.named_parameters()}
            groups = []
            for tower in (*TOWERS, "other"):
                for group in optimizer.param_groups:
                    if members := [p for p in group["params"] if towers[p] == tower]:
                        lr = self.tower_lr.get(tower, group["lr"])
                        groups.append(group | {"params": members, "lr": lr})
            optimizer.param_groups[:] = groups
        return optimizer

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: geoclick.json says more than TRL's card."""

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """PEFT's files and geoclick.json, last; no copy of the processor and no pickled arguments."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        model = self.accelerator.unwrap_model(self.model)
        # LoRA leaves the vocabulary alone; asked to find that out, PEFT would look the base model up on the hub.
        model.save_pretrained(folder, state_dict=state_dict, save_embedding_layers=False)
        write_record(folder, self.record)


class RichProgress(TrainerCallback):
    """A progress bar with the loss, on the first process only."""

    def __init__(self) -> None:
        self.bar: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the bar where the run starts, or goes on."""
        if state.is_world_process_zero:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns)
            self.task = self.bar.add_task("Training", total=state.max_steps, completed=state.global_step)
            self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One step further."""
        if self.bar:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any) -> None:
        """Show the latest loss."""
        if self.bar and logs and "loss" in logs:
            self.bar.update(self.task, description=f"Training (loss {float(logs['loss']):.3f})")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the finished bar on the screen."""
        if self.bar:
            self.bar.stop()
