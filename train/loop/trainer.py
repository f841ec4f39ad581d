"""TRL's SFTTrainer with a loss that any number of processes shares, its own evaluation, provenance in what it saves."""

import shutil
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import IntervalStrategy, PrinterCallback, TrainerCallback
from trl import SFTTrainer

from geoclick import files
from geoclick.train.augmentation.augmented_dataset import Augmented, EpochSampler
from geoclick.train.loop import monitor as monitors
from geoclick.train.loop.gradient_checkpointing import TowerCheckpointing
from geoclick.train.loop.monitor import Monitor
from geoclick.train.packing.packs import Packs
from geoclick.vlms.adapter import AdapterRecord, write_record
from geoclick.vlms.families import TOWERS, tower_of

BEST = "best"
"""Folder of the best adapter inside a run's output."""


class AdapterSaver:
    """What both trainers save: an adapter with its provenance, and nothing else.

    Attributes:
        record: provenance, written beside every adapter that is saved.
    """

    record: AdapterRecord

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: geoclick.json says more than TRL's card."""

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """PEFT's files and geoclick.json, last; no copy of the processor and no pickled arguments."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        model = self.accelerator.unwrap_model(self.model)
        # LoRA leaves the vocabulary alone; asked to find that out, PEFT would look the base model up on the hub.
        # The reference that GRPO holds beside the adapter when beta is above 0 is not part of what it learnt.
        model.save_pretrained(
            folder, state_dict=state_dict, save_embedding_layers=False, selected_adapters=["default"]
        )
        write_record(folder, self.record)


class ClickTrainer(AdapterSaver, SFTTrainer):
    """SFTTrainer for click answers.

    Args:
        record: provenance, written beside every adapter that is saved.
        monitor: what to evaluate on while training, or None.
        train_on: the rows of `train_dataset` in packs or augmented, to train on those instead; None trains on
            batches of the rows as they are.
        tower_lr: learning rates of towers that have one of their own; the others have the run's.
    """

    def __init__(
        self,
        *args: Any,
        record: AdapterRecord,
        monitor: Monitor | None = None,
        train_on: Packs | Augmented | None = None,
        tower_lr: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.record = record
        self.monitor = monitor
        if monitor is not None:
            # Only now: Trainer would ask for rows to compute a loss on.
            self.args.eval_strategy, self.args.eval_steps = IntervalStrategy.STEPS, monitor.every
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

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Let the model answer the monitor's samples; log it, keep the best adapter, stop a run that has stalled.

        Whatever is decided here follows from the log, which a checkpoint holds: a resumed run decides the same.
        """
        self.model.eval()
        with self.accelerator.autocast():
            answers = self.monitor.answer(self.model, self.args.process_index, self.args.world_size)
        figures = monitors.score(answers)
        self.log(figures)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        self.model.train()
        if self.args.process_index == 0:
            picture = monitors.panel(self.monitor.samples, answers)
            path = Path(self.args.output_dir) / "evaluations" / f"step-{self.state.global_step:06d}.png"
            path.parent.mkdir(exist_ok=True)
            with files.whole(path) as partial:
                Image.fromarray(picture).save(partial, format="PNG")
            monitors.send(picture, self.state.global_step, self.callback_handler.callbacks)
        if monitors.is_best(self.state.log_history):
            self._keep_best()
        if monitors.stalled(self.state.log_history, self.monitor.patience):
            self.control.should_training_stop = True
        return figures

    def _keep_best(self) -> None:
        """Save the adapter to `best`, in place of an earlier one when it is whole."""
        best = Path(self.args.output_dir) / BEST
        partial = best.with_name(f"{BEST}.partial")
        self.save_model(str(partial))
        if self.args.process_index == 0:
            shutil.rmtree(best, ignore_errors=True)
            partial.replace(best)


def part(trainer: AdapterSaver) -> None:
    """End the talk of a run's processes together: one that leaves while others still listen makes those abort."""
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.state.destroy_process_group()


class RichProgress(TrainerCallback):
    """A progress bar with the loss or another logged figure, on the first process only."""

    def __init__(self, shown: str = "loss") -> None:
        self.shown = shown
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
        """Show the latest figure."""
        if self.bar and logs and self.shown in logs:
            self.bar.update(self.task, description=f"Training ({self.shown} {float(logs[self.shown]):.3f})")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the finished bar on the screen."""
        if self.bar:
            self.bar.stop()
