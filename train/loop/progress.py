"""The progress of a training run, with its evaluations."""

from contextlib import AbstractContextManager
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from geoclick.progress_bar import Progress, progress


class RichProgress(TrainerCallback):  # type: ignore[misc]
    """Shows the progress with the loss or another logged figure, on the first process only."""

    def __init__(self, shown: str = "loss") -> None:
        self.shown = shown
        self.bar: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start at the step where the run starts or resumes."""
        if state.is_world_process_zero:
            self.context: AbstractContextManager[Progress] = progress(
                "Training", state.max_steps, done=state.global_step
            )
            self.bar = self.context.__enter__()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Advance by one step."""
        if self.bar:
            self.bar.advance(state.global_step - self.bar.done)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the latest figure, and print an evaluation."""
        if not self.bar or not logs:
            return
        if self.shown in logs:
            self.bar.note = f"{self.shown} {float(logs[self.shown]):.3f}"
        figures = [f"{name[5:]} {value:.3f}" for name, value in logs.items() if name.startswith("eval_")]
        if figures:
            self.bar.print(f"step {state.global_step}: {', '.join(figures)}")

    def say(self, line: str) -> None:
        """Print a line above the bar, on the first process only."""
        if self.bar:
            self.bar.print(line)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop the bar; the finished one stays on the screen."""
        if self.bar:
            self.context.__exit__(None, None, None)
