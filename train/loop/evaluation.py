"""Evaluation of a run during its training: figures in its log, the best adapter, and when it stops."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from PIL import Image
from transformers import (
    IntervalStrategy,
    PreTrainedModel,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import CallbackHandler

from geoclick import files
from geoclick.scoring.records import Record
from geoclick.train.loop import attention
from geoclick.train.loop import monitor as monitors
from geoclick.train.loop.held_out_loss import LOSS
from geoclick.train.loop.monitor import Monitor
from geoclick.train.loop.progress import RichProgress

BEST = "best"
"""Folder of the best adapter inside a run's output."""


class EvaluationMixin:
    """The evaluation during training of both trainers.

    All decisions follow from the trainer's log, which a checkpoint holds: a resumed run decides the same.

    Attributes:
        monitor: what the run is evaluated on, or None.
    """

    monitor: Monitor | None = None
    args: TrainingArguments
    accelerator: Accelerator
    model: PreTrainedModel
    state: TrainerState
    control: TrainerControl
    callback_handler: CallbackHandler

    def watch(self, monitor: Monitor | None) -> None:
        """Evaluate by a monitor; after the constructor, since Trainer asks for a dataset to compute a loss on."""
        self.monitor = monitor
        if monitor is not None:
            self.args.eval_strategy, self.args.eval_steps = IntervalStrategy.STEPS, monitor.every

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate on the monitor's samples, log it, save the best adapter, and stop a run that no longer improves."""
        assert self.monitor is not None
        self.model.eval()
        with self.accelerator.autocast(), attention.for_generation(self.model):
            records = self.monitor.evaluate(self.model, self.args.process_index, self.args.world_size)
        figures = monitors.score(records) | self._held_out_loss()
        self.log(figures)  # type: ignore[attr-defined]
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        self.model.train()
        if self.args.process_index == 0:
            self._show(records)
        if monitors.is_best(self.state.log_history):
            self._save_best()
        if monitors.stalled(self.state.log_history, self.monitor.patience):
            self.control.should_training_stop = True
        return figures

    def _run_epoch(self, **arguments: Any) -> None:
        """An epoch; none after the last step of a run, which Trainer notices only at the end of a further step.

        A run may be resumed there: killed before the adapter was saved, or started again.
        """
        patience = self.monitor.patience if self.monitor else 0
        if self.state.global_step >= self.state.max_steps or monitors.stalled(
            self.state.log_history, patience
        ):
            self.control.should_training_stop = True
        else:
            super()._run_epoch(**arguments)  # type: ignore[misc]

    def _show(self, records: Sequence[Record]) -> None:
        """Write the picture of an evaluation and log it; only process 0 may call it."""
        assert self.monitor is not None
        step = self.state.global_step
        picture = monitors.panel(self.monitor.samples, records)
        path = Path(self.args.output_dir) / "evaluations" / f"step-{step:06d}.png"
        path.parent.mkdir(exist_ok=True)
        with files.whole(path) as partial:
            Image.fromarray(picture).save(partial, format="PNG")
        monitors.log_panel(picture, step, self.callback_handler.callbacks)

    def _say(self, line: str) -> None:
        """Print a line above the progress bar of process 0."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, RichProgress):
                callback.say(line)

    def _held_out_loss(self) -> dict[str, float]:
        """The loss on the rows of the monitor's samples, by its name in the log."""
        if self.monitor is None or self.monitor.loss is None:
            return {}
        place = self.accelerator.device, self.args.process_index, self.args.world_size
        with self.accelerator.autocast():
            return {LOSS: self.monitor.loss.compute(self.model, *place)}

    def _evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """An evaluation of the run; the one before the first step is not repeated when the run is resumed."""
        if kwargs.get("skip_scheduler") and self.state.global_step:
            return {}
        figures: dict[str, float] = super()._evaluate(*args, **kwargs)  # type: ignore[misc]
        return figures

    def _save_best(self) -> None:
        """Save the adapter to `best`; an earlier one is replaced once the new one is complete."""
        best = Path(self.args.output_dir) / BEST
        partial = best.with_name(f"{BEST}.partial")
        self.save_model(str(partial))  # type: ignore[attr-defined]
        if self.args.process_index == 0:
            shutil.rmtree(best, ignore_errors=True)
            partial.replace(best)
