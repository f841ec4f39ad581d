"""`geoclick train grpo --dry-run CARD`: memory and time on a card that is not here, as lines of the report.

Answers count with their largest length, so that memory and time are upper limits.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from geoclick.train.loop import estimates
from geoclick.train.loop.cards import CARDS
from geoclick.train.loop.dry_run_estimate import Counts, clock, evaluation_lines, giga
from geoclick.train.loop.estimates import Work
from geoclick.vlms import encoding

if TYPE_CHECKING:
    from trl import GRPOConfig

    from geoclick.train.loop.monitor import Monitor
    from geoclick.train.reinforcement.grpo_trainer import ClickGRPOTrainer


def lines(
    trainer: "ClickGRPOTrainer",
    lengths: Sequence[int],
    counts: Counts,
    arguments: "GRPOConfig",
    card: str,
    monitor: "Monitor | None",
) -> dict[str, str]:
    """Memory and time of training and evaluation, estimated.

    Args:
        trainer: of the run; only the shapes of its model are used.
        lengths: tokens of each prompt.
        counts: of the run.
        arguments: TRL's, of the run.
        card: its name.
        monitor: the evaluation during training, or None.
    """
    on, shapes = CARDS[card], estimates.shapes_of(trainer.model)
    work = work_of(trainer, lengths, arguments)
    most, batches = arguments.max_completion_length, batches_of_step(arguments)
    answers = arguments.per_device_train_batch_size * arguments.steps_per_generation
    cache = estimates.cache_bytes(shapes, tokens=answers * (max(lengths) + most))
    activations = work.longest * estimates.activation_bytes(shapes, checkpointed=work.checkpointed)
    peak = estimates.peak_bytes(shapes, work) + max(0.0, cache - activations)
    sampling = batches * estimates.answer_seconds(shapes, work, on, tokens=most)
    step = estimates.step_seconds(shapes, work, on) + sampling
    result = {
        "memory": f"estimated from shapes for {card}: base weights {giga(estimates.base_bytes(shapes, work))}, LoRA "
        f"with gradients and AdamW's moments {giga(estimates.STATE_BYTES * work.trained)}, activations of "
        f"{work.longest:,} tokens {giga(activations)} or keys and values of {answers:,} answers {giga(cache)}, "
        f"{giga(estimates.RESERVED)} reserved: {giga(peak)} of {giga(on.memory)}, "
        f"{'fits' if peak <= on.memory else 'does not fit'}; without the segmenter and its embeddings",
        "time": f"estimated: at most {step:.2f} s a step with answers of {most:,} tokens ({sampling:.2f} s to sample "
        f"them), without the rewards; {clock(step * counts.steps)} for all steps",
    }
    if monitor is not None:
        rounds = -(-len(monitor.samples) // (monitor.batch_size * arguments.world_size))
        each = rounds * estimates.answer_seconds(shapes, work, on, tokens=most)
        cache = estimates.cache_bytes(shapes, tokens=monitor.batch_size * (max(lengths) + most))
        result |= evaluation_lines(each, most, cache, counts, step)
    return result


def batches_of_step(arguments: "GRPOConfig") -> float:
    """Batches of completions that are sampled for a step; a fraction where a batch serves several steps."""
    return arguments.gradient_accumulation_steps / (arguments.steps_per_generation * arguments.num_iterations)


def work_of(trainer: "ClickGRPOTrainer", lengths: Sequence[int], arguments: "GRPOConfig") -> Work:
    """What a process of the run computes in a step.

    A pass has a row for each prompt, with as many completions as one prompt has at most. Completions of a batch that is
    divided into several passes are shuffled, so that a pass may have many prompts.
    """
    completions, group = arguments.per_device_train_batch_size, arguments.num_generations
    prompts = -(-completions * arguments.steps_per_generation // group)
    rows = min(completions, prompts) if arguments.steps_per_generation > 1 else -(-completions // group)
    answers = min(group, completions) * (arguments.max_completion_length + 1)
    middle, accumulated = sum(lengths) / len(lengths), arguments.gradient_accumulation_steps
    processor = trainer.processing_class
    merge = processor.image_processor.merge_size**2
    visual = [encoding.visual_tokens(processor, sample.size) for sample in trainer.prompts.samples]
    return Work(
        longest=rows * (max(lengths) + answers),
        tokens=accumulated * rows * (middle + answers),
        squares=accumulated * rows * (middle + answers) ** 2,
        patches=batches_of_step(arguments) * prompts * merge * sum(visual) / len(visual),
        accumulated=accumulated,
        trained=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        checkpointed=arguments.gradient_checkpointing,
        quantized=False,
        shares=1,
    )
