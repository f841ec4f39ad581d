"""LoRA-tune a Qwen-VL to write clicks: supervised, loss on the answer only.

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
from typing import TYPE_CHECKING, Any

import yaml

from geoclick import files
from geoclick.command import exit_code
from geoclick.train.options.sft import SftOptions, parse

if TYPE_CHECKING:
    from datasets import Dataset

    from geoclick.train.augmentation.augment import Augmentation
    from geoclick.train.data.vision_features import Features
    from geoclick.train.loop.monitor import Monitor
    from geoclick.train.loop.trainer import ClickTrainer
    from geoclick.train.packing.packs import Packs
    from geoclick.vlms import Vlm


def main(argv: Sequence[str] | None = None) -> int:
    """Run `geoclick train sft`; returns its exit code."""
    return exit_code(lambda: run(*parse(argv)), argv)


def run(options: SftOptions, trl_options: dict[str, Any]) -> None:
    """Train, and leave the adapter, geoclick.json, config.yaml and metrics.json in the output folder.

    Args:
        options: ours.
        trl_options: keyword arguments of TRL's SFTConfig.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Deprecations inside the libraries, which no user of this command can mend.
    warnings.filterwarnings("ignore", category=FutureWarning)
    from geoclick.train.augmentation import sheet
    from geoclick.train.data import rows
    from geoclick.train.loop import checkpoints, checks, dry_run
    from geoclick.train.loop.trainer import part
    from geoclick.train.options.trl_arguments import trl_arguments
    from geoclick.vlms import families

    output = Path(options.output)
    if not options.resume:
        checkpoints.check_fresh(output)
    checks.check_writable(output)
    # Before the model: under DeepSpeed ZeRO-3 this is what makes transformers partition the weights as it loads them.
    ours = {"max_length": None, "remove_unused_columns": False, "completion_only_loss": True}
    arguments = trl_arguments("SFTConfig", trl_options, output_dir=options.output, **ours)
    vlm = load_vlm(options, arguments)
    monitor = make_monitor(options, vlm, arguments) if options.evaluate_every else None
    dataset, left_out = rows.build(
        options.clicks,
        options.root,
        vlm,
        answer_format=options.answer_format,
        max_clicks=options.max_clicks,
        min_iou=options.min_iou,
        held_out={sample.image for sample in monitor.samples} if monitor else (),
        raw=options.augments,
    )
    sizes = {path: tuple(size) for (path,), size in zip(dataset["images"], dataset["size"], strict=True)}
    if options.dry_run:
        checks.check_images(sizes)
    seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
    augmentation = make_augmentation(options, vlm, seed) if options.augments else None
    known = known_features(options, vlm, sizes, arguments)
    packed = None
    if options.packing_tokens:
        packed = pack(options, vlm, dataset, arguments, seed, known is None, augmentation)
        left_out["too_long"] = packed.packing.too_long
    resolved = resolve(options, trl_options, arguments)
    trainer = make_trainer(
        options,
        vlm,
        dry_run.quiet(arguments) if options.dry_run else arguments,
        dataset,
        resolved,
        known=known,
        packed=packed,
        augmentation=augmentation,
        monitor=None if options.dry_run else monitor,
    )
    families.check_trainable(trainer.model, options.tune)
    trainable = families.trainable_by_tower(trainer.model)
    if options.dry_run:
        lines = dry_run.report(
            trainer,
            output=output,
            arguments=arguments,
            rows=dataset,
            left_out=left_out,
            trainable=trainable,
            augmentation=augmentation,
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
        if augmentation:
            sheet.write(output / "augmented.png", dataset, augmentation)
    began = time.perf_counter()
    with checkpoints.explained(output):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        seconds = time.perf_counter() - began
        trainer.save_model(str(output))
    samples = trainer.count_samples()
    if arguments.process_index == 0:
        write_metrics(output, trainer, seconds, samples, len(dataset), trainable, left_out, known)
    part(trainer)


def load_vlm(options: SftOptions, arguments: Any) -> "Vlm":
    """The base model on the CPU, or on its way into 4 bits; bfloat16 where the run has a GPU."""
    import torch

    from geoclick import vlms
    from geoclick.train.loop import quantisation
    from geoclick.train.options.trl_arguments import partitioned

    dtype = torch.bfloat16 if arguments.device.type == "cuda" else torch.float32
    quantised = None
    if options.quantise:
        quantised = quantisation.loading(
            options.quantise, dtype, arguments.device, partitioned=partitioned(arguments)
        )
    return vlms.load(
        options.vlm,
        device="cpu",
        dtype=dtype,
        min_pixels=options.min_pixels,
        max_pixels=options.max_pixels,
        revision=options.revision,
        quantised=quantised,
    )


def make_monitor(options: SftOptions, vlm: "Vlm", arguments: Any) -> "Monitor":
    """What the run is evaluated on: images held out of its store, or another store."""
    from geoclick import segmenters, store
    from geoclick.train.data import held_out
    from geoclick.train.loop.monitor import Monitor
    from geoclick.train.options.trl_arguments import partitioned

    rows = store.read(options.evaluate_clicks or options.clicks)
    return Monitor(
        vlm,
        segmenters.load(options.segmenter, checkpoint=options.checkpoint, device=arguments.device),
        held_out.pick(rows, options.root, options.evaluate_samples),
        answer_format=options.answer_format,
        partitioned=partitioned(arguments),
        every=options.evaluate_every,
        patience=options.patience,
    )


def make_augmentation(options: SftOptions, vlm: "Vlm", seed: int) -> "Augmentation":
    """How rows are made anew in every epoch."""
    from geoclick.train.augmentation.augment import Augmentation

    share = options.other_format_share
    return Augmentation(vlm.processor, vlm.family, options.answer_format, options.augment, share, seed)


def known_features(
    options: SftOptions, vlm: "Vlm", sizes: dict[str, tuple[int, int]], arguments: Any
) -> "dict[str, Features] | None":
    """Features of the frozen vision tower by image, where they stay the same and fit in memory; else None.

    The model goes to the run's device, unless no device is to hold the whole of it.
    """
    import torch

    from geoclick.train.data import vision_features
    from geoclick.train.options.trl_arguments import partitioned

    if partitioned(arguments):
        return None
    vlm.model.to(arguments.device)
    return vision_features.compute(
        vlm,
        sizes,
        device=arguments.device,
        autocast=torch.autocast(arguments.device.type, torch.bfloat16, enabled=arguments.bf16),
        limit=options.feature_memory_gb * 2**30 if options.knows_features else 0,
    )


def pack(
    options: SftOptions,
    vlm: "Vlm",
    dataset: "Dataset",
    arguments: Any,
    seed: int,
    share_images: bool,
    augmentation: "Augmentation | None",
) -> "Packs":
    """The rows in packs, and the model ready to take them; raises GeoClickError when no row fits one."""
    from geoclick.train.packing import packed_forward, packs

    packed_forward.prepare(vlm.model)
    return packs.build(
        dataset,
        vlm.processor,
        budget=options.packing_tokens,
        seed=seed,
        per_step=arguments.world_size * arguments.gradient_accumulation_steps,
        share_images=share_images,
        augmentation=augmentation,
    )


def resolve(options: SftOptions, trl_options: dict[str, Any], arguments: Any) -> dict[str, Any]:
    """Every option of the run in types of YAML; the launcher's are not among them."""
    resolved = asdict(options) | {key: getattr(arguments, key) for key in trl_options}
    del resolved["dry_run"]
    resolved = {key: getattr(value, "value", value) for key, value in resolved.items()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in resolved.items()}


def make_trainer(
    options: SftOptions,
    vlm: "Vlm",
    arguments: Any,
    dataset: "Dataset",
    resolved: dict[str, Any],
    *,
    known: "dict[str, Features] | None",
    packed: "Packs | None",
    augmentation: "Augmentation | None",
    monitor: "Monitor | None",
) -> "ClickTrainer":
    """The trainer, its model wrapped with LoRA and its provenance at hand."""
    from peft import LoraConfig

    from geoclick.train.augmentation import augmented_dataset
    from geoclick.train.data.collator import ClickCollator
    from geoclick.train.loop.trainer import ClickTrainer, RichProgress
    from geoclick.train.packing.packed_collator import PackedCollator
    from geoclick.vlms import adapter, families, loading

    limits = loading.pixel_limits(vlm.processor)
    record = adapter.AdapterRecord(
        base=vlm.name,
        revision=vlm.revision,
        family=vlm.family,
        fingerprint=vlm.fingerprint,
        answer_format=options.answer_format,
        min_pixels=limits[0],
        max_pixels=limits[1],
        targets=families.FAMILIES[vlm.family].lora_targets(options.tune),
        versions=adapter.library_versions(),
        git_commit=adapter.git_commit(),
        config=resolved,
    )
    families.check_targets(vlm.model, vlm.family, options.tune)
    # PEFT writes this name into adapter_config.json; the folder of a hub cache would say nothing elsewhere.
    vlm.model.name_or_path = vlm.name
    return ClickTrainer(
        vlm.model,
        arguments,
        data_collator=(PackedCollator if packed else ClickCollator)(vlm.processor, known),
        train_dataset=dataset,
        processing_class=vlm.processor,
        record=record,
        monitor=monitor,
        train_on=packed or (augmented_dataset.Augmented(dataset, augmentation) if augmentation else None),
        tower_lr=options.tower_lr,
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
    from geoclick.train.loop.monitor import METRIC
    from geoclick.train.packing.packs import Packs

    evaluations = [
        {"step": entry["step"]} | {key: value for key, value in entry.items() if key.startswith("eval_")}
        for entry in trainer.state.log_history
        if METRIC in entry
    ]
    curve = [
        {key: entry[key] for key in ("step", "epoch", "loss", "learning_rate", "mean_token_accuracy")}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    packed = trainer.train_dataset if isinstance(trainer.train_dataset, Packs) else None
    metrics = {
        "loss": curve,
        "evaluations": evaluations,
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
