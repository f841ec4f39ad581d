"""LoRA-tune a Qwen-VL to write clicks: supervised, loss on the answer only, language model only.

geoclick train sft --config configs/sft/embedded.yaml --clicks STORE --root DATASET --output RUN
accelerate launch --config_file accelerate_configs/zero2.yaml -m train.sft --config configs/sft/qwen3_vl_2b.yaml
torchrun --nproc_per_node 4 -m train.sft --config configs/sft/qwen3_vl_2b.yaml
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from geoclick import config, files
from geoclick.errors import GeoClickError
from train.options import Options, parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run `geoclick train sft`; returns its exit code."""
    return config.run_command(lambda: run(*parse(argv)), argv)


def run(options: Options, settings: dict[str, Any]) -> None:
    """Train, and leave the adapter, geoclick.json, config.yaml and metrics.json in the output folder.

    Args:
        options: ours.
        settings: keyword arguments of TRL's SFTConfig.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Deprecations inside the libraries, which no user of this command can mend.
    warnings.filterwarnings("ignore", category=FutureWarning)
    import torch
    from peft import LoraConfig

    from geoclick import vlms
    from geoclick.vlms import adapter, families
    from train import checkpoints, checks, dry_run, features, packed_forward, packs, rows
    from train.collator import ClickCollator
    from train.packed_collator import PackedCollator
    from train.trainer import ClickTrainer, RichProgress

    output = Path(options.output)
    if not options.resume:
        checkpoints.check_fresh(output)
    checks.check_writable(output)
    # Before the model: under DeepSpeed ZeRO-3 this is what makes transformers partition the weights as it loads them.
    arguments = training_arguments(options, settings)
    dtype = torch.bfloat16 if arguments.device.type == "cuda" else torch.float32
    vlm = vlms.load(
        options.vlm,
        device="cpu",
        dtype=dtype,
        min_pixels=options.min_pixels,
        max_pixels=options.max_pixels,
        revision=options.revision,
    )
    dataset, left_out = rows.build(
        options.clicks,
        options.root,
        vlm,
        answer_format=options.answer_format,
        max_clicks=options.max_clicks,
        min_iou=options.min_iou,
    )
    if options.dry_run:
        checks.check_images(
            {path: tuple(size) for (path,), size in zip(dataset["images"], dataset["size"], strict=True)}
        )
    known = None
    if not partitioned(arguments):
        vlm.model.to(arguments.device)
        known = features.compute(
            vlm,
            dict(zip((paths[0] for paths in dataset["images"]), map(tuple, dataset["size"]), strict=True)),
            device=arguments.device,
            autocast=torch.autocast(arguments.device.type, torch.bfloat16, enabled=arguments.bf16),
            limit=options.feature_memory_gb * 2**30,
        )
    packed = None
    if options.packing_tokens:
        packed = packs.build(
            dataset,
            vlm.processor,
            budget=options.packing_tokens,
            seed=arguments.seed if arguments.data_seed is None else arguments.data_seed,
            per_step=arguments.world_size * arguments.gradient_accumulation_steps,
            share_images=known is None,
        )
        packed_forward.prepare(vlm.model)
        left_out["too_long"] = packed.packing.too_long
    resolved = asdict(options) | {key: getattr(arguments, key) for key in settings}
    del resolved["dry_run"]
    resolved = {key: getattr(value, "value", value) for key, value in resolved.items()}
    limits = vlms.loading.pixel_limits(vlm.processor)
    record = adapter.AdapterRecord(
        base=vlm.name,
        revision=vlm.revision,
        family=vlm.family,
        fingerprint=vlm.fingerprint,
        answer_format=options.answer_format,
        min_pixels=limits[0],
        max_pixels=limits[1],
        targets=families.FAMILIES[vlm.family].lora_targets,
        versions=adapter.library_versions(),
        git_commit=adapter.git_commit(),
        config=resolved,
    )
    # PEFT writes this name into adapter_config.json; the folder of a hub cache would say nothing elsewhere.
    vlm.model.name_or_path = vlm.name
    trainer = ClickTrainer(
        vlm.model,
        dry_run.quiet(arguments) if options.dry_run else arguments,
        data_collator=(PackedCollator if packed else ClickCollator)(vlm.processor, known),
        train_dataset=dataset,
        processing_class=vlm.processor,
        record=record,
        packs=packed,
        peft_config=LoraConfig(
            r=options.lora_r,
            lora_alpha=options.lora_alpha,
            lora_dropout=options.lora_dropout,
            use_dora=options.use_dora,
            use_rslora=options.use_rslora,
            target_modules=record.targets,
            task_type="CAUSAL_LM",
        ),
        callbacks=[RichProgress()],
    )
    families.check_trainable(trainer.model)
    trainable = families.trainable_by_tower(trainer.model)
    if options.dry_run:
        lines = dry_run.report(
            trainer, output=output, arguments=arguments, rows=dataset, left_out=left_out, trainable=trainable
        )
        if arguments.process_index == 0:
            print("\n".join(lines))
        return
    last = checkpoints.last_whole(output, arguments.world_size) if options.resume else None
    if last:
        checkpoints.check_same(output, resolved)
        checkpoints.check_launcher(last, deepspeed=arguments.deepspeed_plugin is not None)
    if arguments.process_index == 0:
        files.write_whole(output / "config.yaml", yaml.safe_dump(resolved, sort_keys=False))
        print(
            f"Training {sum(trainable.values()):,} LoRA weights of {vlm.name} on {len(dataset):,} rows"
            f"{f' in {len(packed):,} packs' if packed else ''}, "
            f"{'from ' + last.name if last else 'from the start'}, "
            f"{'with' if known else 'without'} vision features in memory."
        )
    began = time.perf_counter()
    with checkpoints.explained(output):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        seconds = time.perf_counter() - began
        trainer.save_model(str(output))
    samples = trainer.count_samples()
    if arguments.process_index == 0:
        write_metrics(output, trainer, seconds, samples, len(dataset), trainable, left_out, known)


def training_arguments(options: Options, settings: dict[str, Any]) -> Any:
    """TRL's SFTConfig of this run: on the CPU where there is no CUDA, in bfloat16 where there is."""
    import torch
    from trl import SFTConfig

    from train import checks

    cuda = torch.cuda.is_available() and not settings.get("use_cpu", False)
    given = {"use_cpu": not cuda, "bf16": cuda and not settings.get("fp16", False)} | settings
    try:
        arguments = SFTConfig(
            output_dir=options.output,
            max_length=None,
            remove_unused_columns=False,
            completion_only_loss=True,
            # Every trainable weight is used in every step: no search for others.
            **{"ddp_find_unused_parameters": False, "disable_tqdm": True} | given,
        )
    except (ValueError, TypeError, ImportError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise GeoClickError(f"The training options do not go together ({reason}); change them.") from error
    checks.check_reporting(arguments.report_to)
    return arguments


def partitioned(arguments: Any) -> bool:
    """Whether no process holds the whole model: DeepSpeed ZeRO-3 and FSDP."""
    deepspeed = arguments.deepspeed_plugin
    return (deepspeed is not None and deepspeed.zero_stage == 3) or (
        os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true" or bool(arguments.fsdp)
    )


def write_metrics(
    output: Path,
    trainer: Any,
    seconds: float,
    samples: int,
    rows: int,
    trainable: dict[str, int],
    left_out: dict[str, int],
    known: dict | None,
) -> None:
    """Write metrics.json: the loss curve, the speed of this start and what was trained on what."""
    from train.packs import Packs

    curve = [
        {key: entry[key] for key in ("step", "epoch", "loss", "learning_rate", "mean_token_accuracy")}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    packed = trainer.train_dataset if isinstance(trainer.train_dataset, Packs) else None
    metrics = {
        "loss": curve,
        "samples_per_second": round(samples / seconds, 2),
        "seconds": round(seconds, 2),
        "steps": trainer.state.global_step,
        "rows": rows - left_out.get("too_long", 0),
        "rows_left_out": left_out,
        "trainable_parameters": trainable,
        "packs": len(packed) if packed else 0,
        "packs_filled": round(packed.packing.filled, 3) if packed else None,
        "processes": trainer.args.world_size,
        "vision_features_bytes": sum(f.nbytes for f in known.values()) if known else 0,
    }
    files.write_whole(output / "metrics.json", json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
