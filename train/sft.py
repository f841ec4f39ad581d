"""LoRA-tune a Qwen-VL to write clicks: supervised, loss on the answer only.

geoclick train sft --config configs/sft/embedded.yaml --clicks STORE --root DATASET --output RUN
accelerate launch --config_file accelerate_configs/zero2.yaml -m train.sft --config configs/sft/qwen3_vl_2b.yaml
torchrun --nproc_per_node 4 -m train.sft --config configs/sft/qwen3_vl_2b.yaml
"""

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoclick.command import exit_code
from geoclick.errors import GeoClickError
from geoclick.jobs import processes
from geoclick.train.loop.error_reports import reported_by_first
from geoclick.train.options.lora import TOWERS
from geoclick.train.options.sft import NAME, SftOptions, check, parse

if TYPE_CHECKING:
    from trl import SFTConfig

    from geoclick.train.data.training_data import TrainingData
    from geoclick.train.loop.held_out_loss import HeldOutLoss
    from geoclick.train.loop.monitor import Monitor
    from geoclick.train.loop.trainer import ClickTrainer
    from geoclick.vlms.adapter import AdapterRecord
    from geoclick.vlms.loading import Vlm

CURVE = ("step", "epoch", "loss", "learning_rate", "mean_token_accuracy")
"""What the loss curve holds of each logged step."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `geoclick train sft`; returns its exit code."""
    return exit_code(lambda: reported_by_first(lambda: run(*parse(argv, check))), argv)


def run(options: SftOptions, trl_options: dict[str, Any]) -> None:
    """Train, and write the adapter, geoclick.json, config.yaml and metrics.json to the output folder.

    Args:
        options: GeoClick's.
        trl_options: keyword arguments of TRL's SFTConfig.
    """
    from geoclick.train.loop import run as runs

    runs.prepare_process()
    runs.check_push(trl_options)
    from geoclick.train.data import image_hashes, training_data
    from geoclick.train.data.held_out import image_paths
    from geoclick.train.loop import checks, dry_run, lora
    from geoclick.train.loop.monitor import METRIC
    from geoclick.train.options import compute
    from geoclick.train.options.trl_arguments import trl_arguments
    from geoclick.vlms import families

    output = Path(options.output)
    checks.check_contradictions(
        options.sources,
        max_clicks=options.max_clicks,
        min_iou=options.min_iou,
        answer_end=options.answer_end,
        allowed=options.allow_contradictions,
    )
    for clicks in options.clicks:
        checks.check_pixels(clicks)
    # Before the model: under DeepSpeed ZeRO-3 this makes transformers partition the weights while loading.
    ours: dict[str, Any] = {"max_length": None, "remove_unused_columns": False, "completion_only_loss": True}
    if trl_options["save_strategy"] == "best":
        ours |= {"metric_for_best_model": METRIC, "greater_is_better": True}
    arguments = trl_arguments("SFTConfig", trl_options, output_dir=options.output, **ours)
    if not options.estimates:
        compute.check(options, arguments)
    vlm = load_vlm(options, arguments)
    before = read_start(options, vlm)
    saved = lora.modules_to_save(options, vlm.model, before)
    options = dataclasses.replace(options, modules_to_save=tuple(saved))
    monitor = make_monitor(options, vlm, arguments) if options.evaluate_every else None
    held_out = image_paths(monitor.samples) if monitor else set()
    data = training_data.prepare(options, vlm, arguments, held_out)
    resolved = runs.resolve(options, trl_options, arguments) | options.recorded()
    record = new_record(options, vlm, before, arguments, resolved, draws_masks=data.rows.draws_masks)
    if options.dry_run:
        trainer = make_trainer(options, vlm, dry_run.without_output(arguments), data, None, record)
    else:
        trainer = make_trainer(options, vlm, arguments, data, monitor, record)
    families.check_trainable(
        trainer.model, {*options.tune, *(families.tower_of(f"{name}.weight") for name in saved)}
    )
    trainable = families.trainable_by_tower(trainer.model)
    if options.dry_run:
        lines = dry_run.report(
            trainer, data, trainable, options=options, arguments=arguments, monitor=monitor
        )
        if arguments.process_index == 0:
            print("\n".join(lines))
        return
    roots = [source.root for source in [*options.sources, *options.evaluated]]
    images = image_hashes.named({*data.rows.image_sizes(), *held_out}, roots)
    with runs.opened(output, NAME, arguments, resume=options.resume):
        checkpoint = runs.start(
            output, NAME, arguments, resolved, record, images, resume=options.resume, any_division=True
        )
        train(options, trainer, data, checkpoint, trainable, pushed=bool(trl_options.get("push_to_hub")))
    runs.shutdown(trainer)
    if arguments.process_index == 0:
        runs.push(output, trl_options)


def train(
    options: SftOptions,
    trainer: "ClickTrainer",
    data: "TrainingData",
    checkpoint: Path | None,
    trainable: dict[str, int],
    *,
    pushed: bool,
) -> None:
    """Train in an open output folder; process 0 says what is trained and what was written."""
    from geoclick.train.data import sources
    from geoclick.train.loop import run as runs

    output, is_first = Path(options.output), trainer.args.process_index == 0
    if is_first:
        print(
            f"Training {sum(trainable.values()):,} {'LoRA ' * (not options.modules_to_save)}weights of "
            f"{options.adapter or options.vlm} on {len(data.rows):,} rows"
            f"{f' ({len(data.mixture):,} an epoch)' if data.mixture else ''}"
            f"{f' in {len(data.packed):,} packs' if data.packed else ''}, "
            f"{'from ' + checkpoint.name if checkpoint else 'from the start'}, "
            f"{'with' if data.features else 'without'} cached vision features"
            f"{f' ({data.features.nbytes / 1e9:.2f} GB in {data.features.folder})' if data.features else ''}.",
            flush=True,
        )
        if data.augmentation:
            from geoclick.train.augmentation import sheet

            sheet.write(output / "augmented.png", data.click_rows, data.augmentation)
        print(
            "".join(f"  {line}\n" for line in sources.lines(data.sources, data.mixture)), end="", flush=True
        )
    seconds = runs.train(trainer, output, checkpoint)
    samples = trainer.count_samples()
    if is_first:
        speed = {"samples_per_second": round(samples / seconds, 2), "seconds": round(seconds, 2)}
        runs.write_metrics(output, metrics(trainer, data, speed, trainable))
        log = trainer.state.log_history
        print("".join(f"{line}\n" for line in sources.lines(data.sources, data.mixture, log)), end="")
        runs.report(trainer, output, "loss", options.root[0], pushed=pushed)


def load_vlm(options: SftOptions, arguments: "SFTConfig") -> "Vlm":
    """The base model: on the CPU, or quantized on the run's device."""
    import torch

    from geoclick.train.options import compute
    from geoclick.train.options.trl_arguments import partitioned
    from geoclick.vlms import loading, quantization

    # Of a model that is not run here only the shapes matter.
    dtype = torch.bfloat16 if options.estimates else compute.weights_dtype(options, arguments)
    quantized = None
    if options.quantise and not options.estimates:
        quantized = quantization.loading(
            options.quantise, dtype, arguments.device, partitioned=partitioned(arguments)
        )
    vlm = loading.load(
        options.vlm,
        device="cpu",
        dtype=dtype,
        min_pixels=options.min_pixels,
        max_pixels=options.max_pixels,
        revision=options.revision,
        quantized=quantized,
    )
    if not options.estimates:
        compute.set_attention(vlm.model, options)
    return vlm


def make_monitor(options: SftOptions, vlm: "Vlm", arguments: "SFTConfig") -> "Monitor":
    """The evaluation during training, on images held out of the run's click store or on another store."""
    from geoclick import segmenters
    from geoclick.train.data import held_out
    from geoclick.train.loop.monitor import Monitor
    from geoclick.train.options.trl_arguments import partitioned

    samples = held_out.of_sources(options.evaluated, options.evaluate_samples)
    return Monitor(
        vlm,
        segmenters.load(options.segmenter, checkpoint=options.checkpoint, device=arguments.device),
        samples,
        answer_format=options.answer_format,
        partitioned=partitioned(arguments),
        every=options.evaluate_every,
        patience=options.patience,
        batch_size=arguments.per_device_eval_batch_size,
        loss=held_out_loss(options, vlm, held_out.image_paths(samples), arguments),
    )


def held_out_loss(
    options: SftOptions, vlm: "Vlm", images: set[str], arguments: "SFTConfig"
) -> "HeldOutLoss | None":
    """The loss on the rows of some images, or None if these have no row to train on."""
    from geoclick.train.data import sources
    from geoclick.train.data.collator import ClickCollator
    from geoclick.train.data.lazy_rows import JoinedRows
    from geoclick.train.data.task_weights import WeightedCollator
    from geoclick.train.loop.held_out_loss import AllBut, HeldOutLoss

    chosen = []
    for source in options.evaluated:
        # Not all stores need have a row on these images.
        with suppress(GeoClickError):
            chosen.append(sources.build_one(options, source, vlm, AllBut(images))[0])
    if not chosen:
        return None
    collator: ClickCollator | WeightedCollator = ClickCollator(vlm.processor)
    if options.task_weights:
        collator = WeightedCollator(collator, options.task_weights)
    return HeldOutLoss(
        JoinedRows(chosen), collator, options.loss_average, arguments.per_device_eval_batch_size
    )


def read_start(options: SftOptions, vlm: "Vlm") -> "AdapterRecord | None":
    """The record of the adapter that the run starts from, or None; process 0 says what differs from its training.

    Raises:
        GeoClickError: the adapter is broken, or has another base.
    """
    from geoclick.vlms import adapter, adapter_towers

    if not options.adapter:
        return None
    record = adapter.read_record(options.adapter)
    adapter.check_base(record, name=vlm.name, family=vlm.family, fingerprint=vlm.fingerprint)
    adapter_towers.check(record, Path(options.adapter))
    trained = record.config.get("quantise") or "full precision"
    if trained != (options.quantise or "full precision") and processes.rank() == 0:
        print(
            f"note: the adapter was trained on its base in {trained}, this run takes it in "
            f"{options.quantise or 'full precision'}; --quantise nf4 gives 4 bits.",
            flush=True,
        )
    return record


def new_record(
    options: SftOptions,
    vlm: "Vlm",
    before: "AdapterRecord | None",
    arguments: "SFTConfig",
    resolved: dict[str, Any],
    *,
    draws_masks: bool,
) -> "AdapterRecord":
    """The provenance of the run's adapters, which holds that of the adapter it starts from."""
    from geoclick import files
    from geoclick.train.data import sources
    from geoclick.train.loop import checks, lora
    from geoclick.vlms import adapter, adapter_runs, adapter_towers, loading

    min_pixels, max_pixels = loading.pixel_limits(vlm.processor)
    data = sources.digest(options)
    has = adapter_towers.towers(before) if before else ()
    start = files.sha256(Path(str(options.adapter)) / adapter.WEIGHTS) if before else ""
    if before:
        resolved = resolved | {"adapter_sha256": start, "start": before.config}
    return adapter.AdapterRecord(
        base=vlm.name,
        revision=vlm.revision,
        family=vlm.family,
        fingerprint=vlm.fingerprint,
        answer_format=options.answer_format,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        targets=lora.new_targets(options, vlm, before, has),
        towers=[tower for tower in TOWERS if tower in {*has, *options.tune}],
        modules_to_save=list(options.modules_to_save),
        versions=adapter.library_versions(),
        git_commit=adapter.git_commit(),
        config=resolved,
        pixels=checks.pixel_rule(options.clicks),
        data_sha256=data,
        processes=arguments.world_size,
        runs=adapter_runs.started("sft", before, data, start),
        shown_masks=draws_masks or (before.shown_masks if before else False),
    )


def make_trainer(
    options: SftOptions,
    vlm: "Vlm",
    arguments: "SFTConfig",
    data: "TrainingData",
    monitor: "Monitor | None",
    record: "AdapterRecord",
) -> "ClickTrainer":
    """The trainer, with the model wrapped with LoRA and the provenance of its adapters."""
    from geoclick.train.data.collator import ClickCollator
    from geoclick.train.data.sources import SourceCollator
    from geoclick.train.data.task_weights import WeightedCollator
    from geoclick.train.loop import initial_weights, lora
    from geoclick.train.loop.progress import RichProgress
    from geoclick.train.loop.trainer import ClickTrainer
    from geoclick.train.options.trl_arguments import autocast
    from geoclick.train.packing.packed_collator import PackedCollator

    lora.check_initial(options, arguments)
    model = lora.make_model(options, vlm, arguments, record)
    if options.init_lora_weights == "eva":
        batches = initial_weights.eva_batches(data.rows, vlm.processor)
        initial_weights.start_eva(model, batches, vlm.model.device, autocast(arguments))
    collator: PackedCollator | ClickCollator | WeightedCollator | SourceCollator = (
        PackedCollator(vlm.processor, data.features)
        if data.packed
        else ClickCollator(vlm.processor, data.features, multiple=arguments.pad_to_multiple_of or 1)
    )
    if options.task_weights:
        collator = WeightedCollator(collator, options.task_weights)
    if options.is_mixed:
        collator = SourceCollator(collator)
    trainer = ClickTrainer(
        model,
        arguments,
        data_collator=collator,
        train_dataset=data.rows,
        processing_class=vlm.processor,
        record=record,
        monitor=monitor,
        train_on=data.train_on,
        tower_lr=options.tower_lr,
        loss_average=options.loss_average,
        callbacks=[RichProgress()],
    )
    trainer.source_names = [part.source.name for part in data.sources]
    trainer.tuned = options.tune
    trainer.initial = initial_weights.of_model(model) if lora.changes_base(options) else None
    return trainer


def metrics(
    trainer: "ClickTrainer", data: "TrainingData", speed: dict[str, float], trainable: dict[str, int]
) -> dict[str, Any]:
    """The content of metrics.json: the loss curve, the evaluations, the speed of this session and the data."""
    from geoclick.train.data import sources
    from geoclick.train.loop import monitor as monitors

    log = trainer.state.log_history
    packed, features = data.packed, data.features
    return {
        "loss": [
            {key: value for key, value in entry.items() if key in CURVE or key.startswith(sources.LOSS)}
            for entry in log
            if "loss" in entry
        ],
        "evaluations": monitors.evaluations(log),
        **speed,
        "steps": trainer.state.global_step,
        "rows": len(data.rows) - data.left_out.get("too_long", 0),
        "rows_left_out": data.left_out,
        "sources": [dataclasses.asdict(one) for one in sources.figures(data.sources, data.mixture, log)],
        "trainable_parameters": trainable,
        "packs": len(packed) if packed else 0,
        "packs_filled": round(packed.plan.filled, 3) if packed else None,
        "processes": trainer.args.world_size,
        "vision_features_bytes": features.nbytes if features else 0,
    }


if __name__ == "__main__":
    sys.exit(main())
