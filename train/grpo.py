"""Train an adapter that writes clicks with GRPO, rewarded for the masks that the frozen segmenter makes of them.

geoclick train grpo --config configs/grpo/embedded.yaml --adapter ADAPTER --root DATASET --output RUN
torchrun --nproc_per_node 4 -m train.grpo --config configs/grpo/qwen3_vl_2b.yaml --adapter ADAPTER --root DATASET ...
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoclick import files
from geoclick.command import exit_code
from geoclick.errors import GeoClickError, UsageError
from geoclick.train.loop.error_reports import reported_by_first
from geoclick.train.options.grpo import NAME, GrpoOptions, check, parse

if TYPE_CHECKING:
    from trl import GRPOConfig

    from geoclick.datasets import Sample
    from geoclick.segmenters import Segmenter
    from geoclick.train.loop.monitor import Monitor
    from geoclick.train.reinforcement.epoch_samples import EpochSamples
    from geoclick.train.reinforcement.grpo_prompts import GrpoPrompts
    from geoclick.train.reinforcement.grpo_trainer import ClickGRPOTrainer
    from geoclick.train.reinforcement.rewards import RewardFunctions
    from geoclick.vlms.adapter import AdapterRecord
    from geoclick.vlms.loading import Vlm

CURVE = (
    *("step", "epoch", "reward", "reward_std", "frac_reward_zero_std", "entropy", "kl"),
    *("completions/mean_length", "completions/clipped_ratio", "loss", "grad_norm", "learning_rate"),
)
"""What the reward curve holds of each logged step, next to the mean of each reward."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `geoclick train grpo`; returns its exit code."""
    return exit_code(lambda: reported_by_first(lambda: run(*parse(argv, check))), argv)


def run(options: GrpoOptions, trl_options: dict[str, Any]) -> None:
    """Train, and write the adapter, geoclick.json, config.yaml and metrics.json to the output folder.

    Args:
        options: GeoClick's.
        trl_options: keyword arguments of TRL's GRPOConfig.
    """
    from geoclick.train.loop import run as runs

    runs.prepare_process()
    runs.check_push(trl_options)
    from geoclick import segmenters
    from geoclick.train.data import image_hashes
    from geoclick.train.data.held_out import image_paths
    from geoclick.train.loop import dry_run
    from geoclick.train.options import compute
    from geoclick.train.reinforcement import grpo_dry_run, vllm_rollouts
    from geoclick.vlms import adapter, adapter_towers, families

    output = Path(options.output)
    record = adapter.read_record(options.adapter)
    from geoclick.vlms.generation.answers import MAX_NEW_TOKENS

    trl_options = {"max_completion_length": MAX_NEW_TOKENS[record.answer_format]} | trl_options
    arguments = make_arguments(options, trl_options)
    if not options.estimates:
        compute.check(options, arguments, shares_prompts=True)
    samples, held_out = read_samples(options, record, arguments)
    vlm = load_vlm(options, record, arguments)
    if options.constrained:
        limit = arguments.max_completion_length
        pattern = vllm_rollouts.pattern(vlm, samples.samples, record.answer_format, limit)
        arguments.vllm_structured_outputs_regex = pattern
    towers = sorted(adapter_towers.changed_towers(record))
    prompts = make_prompts(options, vlm, samples, record, arguments, towers)
    segmenter = segmenters.load(options.segmenter, checkpoint=options.checkpoint, device=arguments.device)
    rewards = make_rewards(options, vlm, segmenter, samples, record)
    monitor = make_monitor(options, vlm, segmenter, held_out, record, arguments) if held_out else None
    resolved = runs.resolve(options, trl_options, arguments)
    new = new_record(options, record, [*samples, *held_out], arguments, resolved)
    trained = dry_run.without_output(arguments) if options.dry_run else arguments
    trainer = make_trainer(vlm, prompts, rewards, trained, None if options.dry_run else monitor, new)
    families.check_trainable(trainer.model, towers)
    trainable = families.trainable_by_tower(trainer.model)
    if options.dry_run:
        lines = grpo_dry_run.report(trainer, trainable, options, arguments, monitor)
        if arguments.process_index == 0:
            print("\n".join(lines))
        return
    with runs.opened(output, NAME, arguments, resume=options.resume):
        used = [*samples, *held_out]
        images = image_hashes.named(image_paths(used), {str(one.root) for one in used})
        checkpoint = runs.start(output, NAME, arguments, resolved, new, images, resume=options.resume)
        train(options, trainer, checkpoint, trainable, pushed=bool(trl_options.get("push_to_hub")))
    runs.shutdown(trainer)
    if arguments.process_index == 0:
        runs.push(output, trl_options)


def train(
    options: GrpoOptions,
    trainer: "ClickGRPOTrainer",
    checkpoint: Path | None,
    trainable: dict[str, int],
    *,
    pushed: bool,
) -> None:
    """Train in an open output folder; process 0 says what is trained and what was written."""
    from geoclick.train.loop import run as runs

    output, is_first = Path(options.output), trainer.args.process_index == 0
    prompts = trainer.prompts
    if is_first:
        print(
            f"Training {sum(trainable.values()):,} weights of {options.adapter} "
            f"on {len(prompts.samples):,} samples, "
            f"{'from ' + checkpoint.name if checkpoint else 'from the start'}, "
            f"{'with' if prompts.bytes else 'without'} vision features in memory.",
            flush=True,
        )
        if options.augment:
            prompts.samples.write_sheet(output / "augmented.png")
    seconds = runs.train(trainer, output, checkpoint)
    completions = trainer.count_completions()
    if is_first:
        speed = {"completions_per_second": round(completions / seconds, 2), "seconds": round(seconds, 2)}
        runs.write_metrics(output, metrics(trainer, speed, trainable))
        runs.report(trainer, output, "reward", str(options.root), pushed=pushed)


def make_arguments(options: GrpoOptions, trl_options: dict[str, Any]) -> "GRPOConfig":
    """TRL's config of the run.

    Raises:
        GeoClickError: TRL refuses the options.
        UsageError: checkpoints would fall between the passes over a batch, or the launcher partitions the model.
    """
    from geoclick.train.loop.monitor import METRIC
    from geoclick.train.options.trl_arguments import partitioned, trl_arguments
    from geoclick.train.reinforcement import vllm_rollouts
    from geoclick.train.reinforcement.rewards import REWARDS

    ours: dict[str, str | bool | list[float]] = {
        "reward_weights": [getattr(options, f"{name}_weight") for name in REWARDS]
    }
    if trl_options["save_strategy"] == "best":
        ours |= {"metric_for_best_model": METRIC, "greater_is_better": True}
    arguments = trl_arguments("GRPOConfig", trl_options, output_dir=options.output, **ours)
    check_generations(arguments, options.evaluate_every)
    if partitioned(arguments):
        raise UsageError(
            "GRPO needs the complete model in each process; use DDP or ZeRO-2 instead of ZeRO-3 and FSDP."
        )
    vllm_rollouts.check(arguments, constrained=options.constrained, estimated=options.estimates)
    return arguments


def check_generations(arguments: "GRPOConfig", evaluate_every: int) -> None:
    """Refuse checkpoints between the passes over one batch of completions, because they do not hold the batch.

    Args:
        arguments: TRL's config of the run.
        evaluate_every: steps between evaluations; with `save_strategy: best` a checkpoint may follow each.

    Raises:
        UsageError: with the steps that are possible.
    """
    passes = arguments.steps_per_generation * arguments.num_iterations
    every = {"steps": ("save_steps", arguments.save_steps), "best": ("evaluate_every", evaluate_every)}
    name, steps = every.get(arguments.save_strategy.value, ("", 0))
    if steps * arguments.gradient_accumulation_steps % passes:
        raise UsageError(
            f"{name} {steps:g} falls between the passes over one batch of completions; make it a multiple of "
            f"{-(-passes // arguments.gradient_accumulation_steps)}."
        )


def read_samples(
    options: GrpoOptions, record: "AdapterRecord", arguments: "GRPOConfig"
) -> "tuple[EpochSamples, list[Sample]]":
    """The samples that the run trains on, and those that it is evaluated on; process 0 says how many.

    Raises:
        GeoClickError: those of the training do not fill one batch, or an image is missing.
    """
    from geoclick import datasets
    from geoclick.datasets import selection
    from geoclick.train.reinforcement import held_out_samples
    from geoclick.train.reinforcement.epoch_samples import EpochSamples

    root = datasets.root_of(options.dataset, options.root)
    stream = datasets.read(options.dataset, root, options.split, options=options.reading())
    samples = selection.select(stream, limit=options.limit, first=options.first, seed=arguments.seed)
    held_out: list[Sample] = []
    if options.evaluate_split:
        others = list(datasets.read(options.dataset, root, options.evaluate_split, options=options.reading()))
        held_out, _ = held_out_samples.divide(others, options.evaluate_samples)
    elif options.evaluate_every:
        held_out, samples = held_out_samples.divide(samples, options.evaluate_samples)
    prompts = arguments.generation_batch_size // arguments.num_generations
    if len(samples) < prompts:
        out = f" ({len(held_out)} are held out)" if held_out and not options.evaluate_split else ""
        raise GeoClickError(
            f"{len(samples)} samples{out} are fewer than the {prompts} prompts of a batch; lower "
            "per_device_train_batch_size or gradient_accumulation_steps."
        )
    if held_out and arguments.process_index == 0:
        held_out_samples.report(held_out, options, record)
    return EpochSamples(samples, options.augment, arguments.seed), held_out


def load_vlm(options: GrpoOptions, record: "AdapterRecord", arguments: "GRPOConfig") -> "Vlm":
    """The base model with the adapter, whose weights are trainable."""
    import torch

    from geoclick.train.loop import lora
    from geoclick.train.options import compute
    from geoclick.vlms import adapter, loading

    name, revision = options.vlm or record.base, record.revision or None
    # All checks come before the model.
    loading.load_base(name, adapter=options.adapter, revision=revision)
    # Of a model that is not run here only the shapes matter.
    vlm = loading.load(
        name,
        device="cpu" if options.estimates else arguments.device,
        dtype=torch.bfloat16 if options.estimates else compute.weights_dtype(options, arguments),
        min_pixels=record.min_pixels,
        max_pixels=record.max_pixels,
        revision=revision,
    )
    if not options.estimates:
        compute.set_attention(vlm.model, options)
    # PEFT writes this name; the folder of a hub cache would mean nothing elsewhere.
    vlm.model.name_or_path = vlm.name
    config = adapter.read_config(Path(options.adapter))
    return dataclasses.replace(vlm, model=lora.start_from(vlm.model, options.adapter, config, arguments))


def make_prompts(
    options: GrpoOptions,
    vlm: "Vlm",
    samples: "EpochSamples",
    record: "AdapterRecord",
    arguments: "GRPOConfig",
    towers: Sequence[str],
) -> "GrpoPrompts":
    """The prompts of the samples, with the vision features of their images if these are constant and fit in memory."""
    from geoclick.train.options.trl_arguments import autocast
    from geoclick.train.reinforcement.grpo_prompts import GrpoPrompts

    return GrpoPrompts(
        vlm,
        samples,
        answer_format=record.answer_format,
        device=arguments.device,
        autocast=autocast(arguments),
        limit=0 if options.estimates else options.feature_memory_gb * 2**30,
        trains_vision=set(towers) != {"language_model"},
    )


def make_rewards(
    options: GrpoOptions,
    vlm: "Vlm",
    segmenter: "Segmenter",
    samples: "EpochSamples",
    record: "AdapterRecord",
) -> "RewardFunctions":
    """The reward functions, which decode clicks with the frozen segmenter."""
    from geoclick.train.reinforcement import rewards
    from geoclick.train.reinforcement.embedding_cache import EmbeddingCache

    score = partial(
        rewards.score_completions,
        vlm,
        segmenter,
        EmbeddingCache(segmenter, options.embedding_memory_gb * 2**30),
        answer_format=record.answer_format,
        decode=options.decode,
    )
    return rewards.RewardFunctions(score, samples)


def make_monitor(
    options: GrpoOptions,
    vlm: "Vlm",
    segmenter: "Segmenter",
    held_out: "Sequence[Sample]",
    record: "AdapterRecord",
    arguments: "GRPOConfig",
) -> "Monitor":
    """The evaluation during training, which decodes clicks as the rewards do."""
    from geoclick.train.loop.monitor import Monitor

    return Monitor(
        vlm,
        segmenter,
        held_out,
        answer_format=record.answer_format,
        partitioned=False,
        every=options.evaluate_every,
        patience=options.patience,
        batch_size=arguments.per_device_eval_batch_size,
        decode=options.decode,
    )


def new_record(
    options: GrpoOptions,
    record: "AdapterRecord",
    samples: "Sequence[Sample]",
    arguments: "GRPOConfig",
    resolved: dict[str, Any],
) -> "AdapterRecord":
    """The provenance of the trained adapter, which holds that of the adapter it starts from."""
    from geoclick.vlms import adapter, adapter_runs, adapter_towers

    start, data = files.sha256(Path(options.adapter) / adapter.WEIGHTS), digest(samples)
    return dataclasses.replace(
        record,
        versions=adapter.library_versions(),
        git_commit=adapter.git_commit(),
        config=resolved | {"adapter_sha256": start, "start": record.config},
        pixels={"bands": list(options.bands), "stretch": list(options.stretch)},
        data_sha256=data,
        processes=arguments.world_size,
        towers=list(adapter_towers.towers(record)),
        runs=adapter_runs.started("grpo", record, data, start),
    )


def digest(samples: "Sequence[Sample]") -> str:
    """SHA-256 of the samples of a run, without the pixels of their images."""
    values = [(one.sample_id, one.task, one.query, one.image, one.size, one.rle) for one in samples]
    return hashlib.sha256(json.dumps(values, default=int).encode()).hexdigest()


def make_trainer(
    vlm: "Vlm",
    prompts: "GrpoPrompts",
    rewards: "RewardFunctions",
    arguments: "GRPOConfig",
    monitor: "Monitor | None",
    record: "AdapterRecord",
) -> "ClickGRPOTrainer":
    """The trainer of the adapter."""
    from geoclick.train.loop.progress import RichProgress
    from geoclick.train.reinforcement import vllm_rollouts
    from geoclick.train.reinforcement.grpo_trainer import ClickGRPOTrainer

    with vllm_rollouts.readable_errors(arguments):
        return ClickGRPOTrainer(
            vlm.model,
            rewards.functions(),
            arguments,
            processing_class=vlm.processor,
            record=record,
            prompts=prompts,
            monitor=monitor,
            callbacks=[RichProgress("reward")],
        )


def metrics(
    trainer: "ClickGRPOTrainer", speed: dict[str, float], trainable: dict[str, int]
) -> dict[str, Any]:
    """The content of metrics.json: the reward curve, the evaluations, the speed of this session and the data."""
    from geoclick.train.loop import monitor as monitors
    from geoclick.train.reinforcement import reward_curves

    log = trainer.state.log_history
    curve = [
        {key: entry[key] for key in CURVE if key in entry}
        | {name: entry[reward_curves.mean_name(name)] for name in trainer.reward_func_names}
        for entry in log
        if "reward" in entry
    ]
    return {
        "reward": curve,
        "evaluations": monitors.evaluations(log),
        "reward_rose_miou_fell": reward_curves.diverged_at(log),
        **speed,
        "steps": trainer.state.global_step,
        "rows": len(trainer.prompts.samples),
        "samples_evaluated": len(trainer.monitor.samples) if trainer.monitor else 0,
        "trainable_parameters": trainable,
        "processes": trainer.args.world_size,
        "vision_features_bytes": trainer.prompts.bytes,
    }


if __name__ == "__main__":
    sys.exit(main())
