"""`geoclick train grpo --dry-run`: a few steps of the run, to measure what it needs and to fail early.

The trainer is that of the run, under any launcher. Its first steps are on the longest prompts, with answers of the
largest length, where memory peaks. Those on random prompts are timed, with answers as the adapter writes them. Then
some held-out samples are evaluated, if the run does. All output goes to a temporary folder.
"""

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from geoclick.datasets import Sample
from geoclick.train.loop import checks, dry_run
from geoclick.train.loop.dry_run import LONGEST, MEASURED, StepMeasurement, cycled
from geoclick.train.loop.dry_run_estimate import Counts, clock, giga
from geoclick.train.reinforcement import grpo_estimate
from geoclick.vlms import encoding

if TYPE_CHECKING:
    from trl import GRPOConfig

    from geoclick.train.loop.monitor import Monitor
    from geoclick.train.options.grpo import GrpoOptions
    from geoclick.train.reinforcement.grpo_trainer import ClickGRPOTrainer


class FullAnswers(TrainerCallback):  # type: ignore[misc]
    """Lets all answers of the first steps have the largest length.

    Args:
        trainer: samples the answers.
        steps: number of these steps.
    """

    def __init__(self, trainer: "ClickGRPOTrainer", steps: int) -> None:
        self.trainer, self.steps = trainer, steps

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the smallest length."""
        self._set(self.trainer.max_completion_length)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remove it after the last of the steps."""
        if state.global_step == self.steps:
            self._set(0)

    def _set(self, tokens: int) -> None:
        if self.trainer.use_vllm:
            self.trainer.vllm_generation.generation_kwargs["min_tokens"] = tokens
        else:
            self.trainer.generation_config.min_new_tokens = tokens


def report(
    trainer: "ClickGRPOTrainer",
    trainable: dict[str, int],
    options: "GrpoOptions",
    arguments: "GRPOConfig",
    monitor: "Monitor | None",
) -> list[str]:
    """Run the steps, or estimate them for a card, and return the lines of the report.

    Args:
        trainer: the run's, not yet started, with the config of `without_output`.
        trainable: number of trained weights by tower.
        options: GeoClick's, of the run; nothing is written to its output folder.
        arguments: the run's own config.
        monitor: the evaluation during training, or None.

    Raises:
        GeoClickError: an image is broken, or the disk of the output folder is too full.
    """
    samples = trainer.prompts.samples
    checks.check_samples([*samples, *(monitor.samples if monitor else [])])
    lengths = [prompt_length(trainer, sample) for sample in samples]
    _, epoch_steps, _, _, _, _, steps = trainer.set_initial_training_values(
        arguments, trainer.get_train_dataloader()
    )
    evaluations = dry_run.evaluations_of(arguments, monitor, steps)
    checkpoints = dry_run.checkpoints_on_disk(arguments, epoch_steps, steps, evaluations)
    output, weights = Path(options.output), sum(trainable.values())
    needed, free = checks.check_space(output, weights=weights, checkpoints=checkpoints)
    batch = arguments.generation_batch_size
    counts = Counts(steps, batch, evaluations)
    lines = {
        "samples": f"{len(samples):,}{f', {len(monitor.samples):,} held out' if monitor else ''}",
        "prompt tokens": dry_run.quantiles(lengths),
        "answers": f"{batch:,} of {batch // arguments.num_generations:,} prompts at once, on {arguments.world_size} "
        f"process(es), of at most {arguments.max_completion_length:,} tokens",
        "trainable": dry_run.trainable_line(trainer.model, trainable),
        "steps": f"{epoch_steps:,} an epoch, {steps:,} in all",
    }
    if options.estimates:
        lines |= grpo_estimate.lines(trainer, lengths, counts, arguments, str(options.dry_run), monitor)
    else:
        lines |= measured_lines(trainer, lengths, counts, monitor)
    lines["disk"] = f"up to {giga(needed)} for checkpoints and adapter, {giga(free)} free"
    return [f"{name:<13} {value}" for name, value in lines.items()]


def prompt_length(trainer: "ClickGRPOTrainer", sample: Sample) -> int:
    """The tokens of a sample's prompt, visual ones included; augmentation changes its words at most."""
    visual = encoding.visual_tokens(trainer.processing_class, sample.size)
    return len(trainer.prompts.query_ids(sample.query)) - 1 + visual


def measured_lines(
    trainer: "ClickGRPOTrainer", lengths: list[int], counts: Counts, monitor: "Monitor | None"
) -> dict[str, str]:
    """Memory and time of training and evaluation, measured on this machine."""
    cycle = steps_of_batch(trainer)
    measured = measure_steps(trainer, lengths, cycle)
    seconds = measured.seconds[LONGEST * cycle :]
    # Only the first step on a batch samples its answers.
    step = statistics.median(
        statistics.mean(seconds[start : start + cycle]) for start in range(0, len(seconds), cycle)
    )
    lines = {
        "memory": f"measured: base weights {giga(dry_run.base_bytes(trainer.model))}; {LONGEST} batches of the longest "
        f"prompts with answers of {trainer.max_completion_length:,} tokens, the optimizer's state included, add "
        f"{dry_run.added(measured.memory)}",
        "time": f"measured: {step:.2f} s a step on {trainer.args.device.type} (median of {MEASURED}, with answers of a "
        f"model that has just started), {clock(step * counts.steps)} for all steps",
    }
    return lines | dry_run.evaluation_lines(trainer, monitor, counts, step)


def steps_of_batch(trainer: "ClickGRPOTrainer") -> int:
    """Steps that train on one batch of completions; where a step takes several batches, one."""
    passes = trainer.args.steps_per_generation * trainer.num_iterations
    return -(-passes // trainer.args.gradient_accumulation_steps)


def measure_steps(trainer: "ClickGRPOTrainer", lengths: list[int], cycle: int) -> StepMeasurement:
    """Train on the longest prompts, with answers of the largest length, and on others; the weights are discarded.

    Args:
        trainer: the run's.
        lengths: tokens of each prompt.
        cycle: steps that train on one batch of completions.
    """
    keys = trainer.train_dataset
    size = keys.batch * batches_of_step(trainer)
    longest = sorted(range(len(lengths)), key=lambda index: -lengths[index])[:size]
    others = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0)).tolist()
    keys.given = cycled(longest, size) * LONGEST + cycled(others, size * MEASURED)
    trainer.args.max_steps = cycle * (LONGEST + MEASURED)
    measured = StepMeasurement(trainer.args.device, cycle * LONGEST)
    trainer.add_callback(measured)
    trainer.add_callback(FullAnswers(trainer, cycle * LONGEST))
    trainer.train()
    return measured


def batches_of_step(trainer: "ClickGRPOTrainer") -> int:
    """Batches of completions that one step trains on; one where a batch serves several steps."""
    passes = trainer.args.steps_per_generation * trainer.num_iterations
    return max(1, trainer.args.gradient_accumulation_steps // passes)
