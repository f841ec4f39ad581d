"""`geoclick train sft --dry-run CARD`: memory and time on a card that is not here, as lines of the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from geoclick.train.data.training_data import TrainingData
from geoclick.train.loop import estimates
from geoclick.train.loop.cards import CARDS
from geoclick.train.loop.estimates import Shapes, Work
from geoclick.train.options.trl_arguments import partitioned
from geoclick.vlms import encoding
from geoclick.vlms.processor import Processor

if TYPE_CHECKING:
    from trl import SFTConfig

    from geoclick.train.loop.monitor import Monitor
    from geoclick.train.loop.trainer import ClickTrainer
    from geoclick.train.options.sft import SftOptions


@dataclass(frozen=True)
class Counts:
    """How much a run does.

    Attributes:
        steps: in all.
        step_size: rows, or packs, of a step over all processes.
        evaluations: in all.
    """

    steps: int
    step_size: int
    evaluations: int


def lines(
    trainer: "ClickTrainer",
    data: TrainingData,
    lengths: Sequence[int],
    counts: Counts,
    options: "SftOptions",
    arguments: "SFTConfig",
    monitor: "Monitor | None",
) -> dict[str, str]:
    """Memory and time of training and evaluation, estimated.

    Args:
        trainer: of the run; only the shapes of its model are used.
        data: of the run.
        lengths: tokens of each row.
        counts: of the run.
        options: GeoClick's, of the run; `dry_run` is the card.
        arguments: TRL's, of the run.
        monitor: the evaluation during training, or None.
    """
    assert options.dry_run is not None
    card, shapes = CARDS[options.dry_run], estimates.shapes_of(trainer.model)
    work = work_of(trainer, data, lengths, shapes, options, arguments)
    peak, step = estimates.peak_bytes(shapes, work), estimates.step_seconds(shapes, work, card)
    activations = work.longest * estimates.activation_bytes(shapes, checkpointed=work.checkpointed)
    towers = (
        ""
        if set(options.trained_towers) == {"language_model"}
        else ", without those of the trained vision tower"
    )
    result = {
        "memory": f"estimated from shapes for {options.dry_run}: base weights "
        f"{giga(estimates.base_bytes(shapes, work))}, LoRA with gradients and AdamW's moments "
        f"{giga(estimates.STATE_BYTES * work.trained)}, activations of {work.longest:,} tokens "
        f"{giga(activations)}{towers}, "
        f"{giga(estimates.RESERVED)} reserved: {giga(peak)} of {giga(card.memory)}, "
        f"{'fits' if peak <= card.memory else 'does not fit'}",
        "time": f"estimated: {step:.2f} s a step at {estimates.UTILIZATION:.0%} of {card.flops / 1e12:.0f} TFLOP/s "
        f"(assumed), {clock(step * counts.steps)} for all steps",
    }
    if monitor is not None:
        answer = int(data.rows.text_lengths()[:, 1].max())
        batches = -(-len(monitor.samples) // (monitor.batch_size * arguments.world_size))
        each = batches * estimates.answer_seconds(shapes, work, card, tokens=answer)
        cache = estimates.cache_bytes(shapes, tokens=monitor.batch_size * max(lengths))
        result |= evaluation_lines(each, answer, cache, counts, step)
    return result


def evaluation_lines(each: float, answer: int, cache: float, counts: Counts, step: float) -> dict[str, str]:
    """The time of the evaluations and of the run.

    Args:
        each: seconds of an evaluation.
        answer: tokens of an answer.
        cache: bytes of the keys and values.
        counts: of the run.
        step: seconds of a step.
    """
    return {
        "evaluation": f"estimated: {each:.1f} s each for answers of {answer} tokens, without the segmenter; "
        f"{clock(each * counts.evaluations)} for all {counts.evaluations}; keys and values take {giga(cache)}",
        "in all": clock(step * counts.steps + each * counts.evaluations),
    }


def work_of(
    trainer: "ClickTrainer",
    data: TrainingData,
    lengths: Sequence[int],
    shapes: Shapes,
    options: "SftOptions",
    arguments: "SFTConfig",
) -> Work:
    """What a process of the run computes in a step."""
    if data.packed:
        batches = data.packed.plan.packs(0)
        sizes = [sum(lengths[index] for index in batch) for batch in batches]
        most = max(sizes)
    else:
        rows = arguments.per_device_train_batch_size
        order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0)).tolist()
        batches = [order[start : start + rows] for start in range(0, len(order), rows)]
        sizes = [len(batch) * max(lengths[index] for index in batch) for batch in batches]
        most = rows * max(lengths)
    accumulated = arguments.gradient_accumulation_steps
    per_step = accumulated / len(batches)
    shown = [data.rows.images(index)[0] for index in range(len(data.rows))]
    per_batch = [[path for index in batch for path in shown[index]] for batch in batches]
    images = sum(len(set(paths) if data.packed else paths) for paths in per_batch)
    patches = patches_of_image(trainer.processing_class, data)
    distinct = {path for paths in shown for path in paths}
    cached = features_fit(shapes, patches * len(distinct), trainer, options)
    return Work(
        longest=most,
        tokens=sum(sizes) * per_step,
        squares=sum(lengths[index] ** 2 for batch in batches for index in batch) * per_step,
        patches=0 if cached else images * patches * per_step,
        accumulated=accumulated,
        trained=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        checkpointed=arguments.gradient_checkpointing,
        quantized=bool(options.quantise),
        shares=arguments.world_size if partitioned(arguments) else 1,
    )


def patches_of_image(processor: Processor, data: TrainingData) -> float:
    """The mean number of patches of an image of the rows."""
    sizes = [size for index in range(len(data.rows)) for size in data.rows.sizes(index)]
    merged = {size: encoding.visual_tokens(processor, size) for size in set(sizes)}
    return sum(merged[size] for size in sizes) / len(sizes) * processor.image_processor.merge_size**2


def features_fit(shapes: Shapes, patches: float, trainer: "ClickTrainer", options: "SftOptions") -> bool:
    """Whether the vision features of all images, of so many patches, are constant and fit in their memory."""
    config = trainer.model.config.vision_config
    levels = 1 + len(getattr(config, "deepstack_visual_indexes", None) or ())
    merge = trainer.processing_class.image_processor.merge_size
    size = patches / merge**2 * shapes.hidden * 2 * levels
    return options.constant_features and size <= options.feature_memory_gb * 2**30


def giga(count: float) -> str:
    """Bytes as text."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def clock(seconds: float) -> str:
    """Seconds as text."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
