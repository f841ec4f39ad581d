"""Reinforce an adapter that writes clicks (GRPO), rewarded by the masks that the frozen segmenter makes of them.

geoclick train grpo --config configs/grpo/embedded.yaml --adapter ADAPTER --root DATASET --output RUN
torchrun --nproc_per_node 4 -m train.grpo --config configs/grpo/qwen3_vl_2b.yaml --adapter ADAPTER --root DATASET ...
"""

import dataclasses
import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from geoclick import files
from geoclick.command import exit_code
from geoclick.errors import GeoClickError, UsageError
from geoclick.train.options.grpo import GrpoOptions, parse

CURVE = (
    *("step", "epoch", "reward", "reward_std", "frac_reward_zero_std", "entropy", "kl"),
    *("completions/mean_length", "completions/clipped_ratio", "loss", "grad_norm", "learning_rate"),
)
"""What the reward curve tells of a step, beside the mean of each reward."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `geoclick train grpo`; returns its exit code."""
    return exit_code(lambda: run(*parse(argv)), argv)


def run(options: GrpoOptions, trl_options: dict[str, Any]) -> None:
    """Train, and leave the adapter, geoclick.json, config.yaml and metrics.json in the output folder.

    Args:
        options: ours.
        trl_options: keyword arguments of TRL's GRPOConfig.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Deprecations inside the libraries, which no user of this command can mend.
    warnings.filterwarnings("ignore", category=FutureWarning)
    import torch

    from geoclick import datasets, segmenters, vlms
    from geoclick.inference.backends.local import MAX_NEW_TOKENS
    from geoclick.train.loop import checkpoints
    from geoclick.train.loop.trainer import RichProgress, part
    from geoclick.train.options.trl_arguments import partitioned, trl_arguments
    from geoclick.train.reinforcement import rewards
    from geoclick.train.reinforcement.embedding_cache import Embeddings
    from geoclick.train.reinforcement.grpo_prompts import Questions
    from geoclick.train.reinforcement.grpo_trainer import ClickGRPOTrainer
    from geoclick.vlms import adapter, families

    output = Path(options.output)
    if not options.resume:
        checkpoints.check_fresh(output)
    start = adapter.read_record(options.adapter)
    trl_options = {"max_completion_length": MAX_NEW_TOKENS[start.answer_format]} | trl_options
    weights = [getattr(options, f"{name}_weight") for name in rewards.REWARDS]
    arguments = trl_arguments("GRPOConfig", trl_options, output_dir=options.output, reward_weights=weights)
    check_generations(arguments)
    if partitioned(arguments):
        raise UsageError(
            "GRPO needs the whole model in each process; use DDP or ZeRO-2 instead of ZeRO-3 and FSDP."
        )
    root = datasets.root_of(options.dataset, options.root)
    stream = datasets.read(options.dataset, root, options.split, options=options.reading())
    samples = list(islice(stream, options.limit))
    at_once = arguments.generation_batch_size // arguments.num_generations
    if len(samples) < at_once:
        raise GeoClickError(
            f"{len(samples)} samples are fewer than the {at_once} that are asked at once; lower "
            "per_device_train_batch_size or gradient_accumulation_steps."
        )
    segmenter = segmenters.load(options.segmenter, checkpoint=options.checkpoint, device=arguments.device)
    vlm = vlms.load(
        options.vlm or start.base,
        adapter=options.adapter,
        device=arguments.device,
        dtype=torch.bfloat16 if arguments.device.type == "cuda" else torch.float32,
        revision=start.revision or None,
    )
    # PEFT loads an adapter frozen, and writes this name; the folder of a hub cache would say nothing elsewhere.
    vlm.model.peft_config["default"].base_model_name_or_path = vlm.name
    vlm.model.set_adapter("default")
    questions = Questions(
        vlm,
        samples,
        answer_format=start.answer_format,
        device=arguments.device,
        autocast=torch.autocast(arguments.device.type, torch.bfloat16, enabled=arguments.bf16),
        limit=options.feature_memory_gb * 2**30,
    )
    embeddings = Embeddings(segmenter, options.embedding_memory_gb * 2**30)
    judge = partial(
        rewards.judge, vlm, segmenter, embeddings, answer_format=start.answer_format, decode=options.decode
    )
    resolved = resolve(options, trl_options, arguments)
    trainer = ClickGRPOTrainer(
        vlm.model,
        rewards.Judge(judge, samples).functions(),
        arguments,
        processing_class=vlm.processor,
        record=dataclasses.replace(
            start,
            versions=adapter.library_versions(),
            git_commit=adapter.git_commit(),
            config=resolved
            | {"adapter_sha256": files.sha256(Path(options.adapter) / adapter.WEIGHTS)}
            | {"start": start.config},
        ),
        questions=questions,
        callbacks=[RichProgress("reward")],
    )
    families.check_trainable(trainer.model)
    trainable = families.trainable_by_tower(trainer.model)
    last = checkpoints.last_whole(output, arguments.world_size) if options.resume else None
    if last:
        checkpoints.check_same(output, resolved)
    if arguments.process_index == 0:
        files.write_whole(output / "config.yaml", yaml.safe_dump(resolved, sort_keys=False))
        print(
            f"Reinforcing {sum(trainable.values()):,} LoRA weights of {options.adapter} on {len(samples):,} samples, "
            f"{'from ' + last.name if last else 'from the start'}, "
            f"{'with' if questions.bytes else 'without'} vision features in memory."
        )
    began = time.perf_counter()
    with checkpoints.explained(output):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        seconds = time.perf_counter() - began
        trainer.save_model(str(output))
    completions = trainer.count_completions()
    if arguments.process_index == 0:
        write_metrics(output, trainer, seconds, completions, len(samples), trainable)
    part(trainer)


def check_generations(arguments: Any) -> None:
    """Refuse checkpoints between the passes over one batch of completions: they do not hold it.

    Raises:
        UsageError: with the step that they must keep.
    """
    passes = arguments.steps_per_generation * arguments.num_iterations
    if (
        arguments.save_strategy == "steps"
        and arguments.save_steps * arguments.gradient_accumulation_steps % passes
    ):
        raise UsageError(
            f"save_steps {arguments.save_steps:g} falls between the passes over one batch of completions; make it a "
            f"multiple of {-(-passes // arguments.gradient_accumulation_steps)}."
        )


def resolve(options: GrpoOptions, trl_options: dict[str, Any], arguments: Any) -> dict[str, Any]:
    """All options as plain values, ours and those of TRL's that were given or have a default here."""
    values = dataclasses.asdict(options) | {key: getattr(arguments, key) for key in trl_options}
    values = {key: getattr(value, "value", value) for key, value in values.items()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def write_metrics(
    output: Path, trainer: Any, seconds: float, completions: int, rows: int, trainable: dict[str, int]
) -> None:
    """Write metrics.json: the reward curve, the speed of this start and what was trained on what."""
    curve = [
        {key: entry[key] for key in CURVE if key in entry}
        | {name: entry[f"rewards/{name}/mean"] for name in trainer.reward_func_names}
        for entry in trainer.state.log_history
        if "reward" in entry
    ]
    metrics = {
        "reward": curve,
        "completions_per_second": round(completions / seconds, 2),
        "seconds": round(seconds, 2),
        "steps": trainer.state.global_step,
        "rows": rows,
        "trainable_parameters": trainable,
        "processes": trainer.args.world_size,
        "vision_features_bytes": trainer.questions.bytes,
    }
    files.write_whole(output / "metrics.json", json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
