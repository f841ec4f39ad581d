"""Speed of LoRA training: TRL's SFTTrainer, compared with `geoclick train sft`, padded and packed.

    python -m benchmarks.training --clicks STORE --root DATA --output runs/speed
    python -m benchmarks.training --clicks STORE --root DATA --output runs/speed --model qwen3_vl_2b --tokenizer FOLDER

Each variant trains its own copy of the model on the same rows with the same options, in the training loop of the
libraries. The variants run in turns of a few steps, so that the load of the machine affects all of them; the first turn
of each is not timed. TRL's variant has prompt, completion and images as columns, its own collator and its default
options, except for those that all variants share: learning rate, batch size, precision, gradient checkpointing and
`max_length=None`. The token budget of the packs is chosen so that a pack holds as many rows as a batch, on average.

`--model` is `embedded`, or an architecture of benchmarks/random_models.py with random weights and images resized to
`--side`.

Operations are counted as 2 per weight and token in the forward pass, and as (2 + LoRA/frozen)/3 of 6 in training: for
the language model's layers on all tokens without padding, and for the forward pass of the vision tower on its patches;
attention scores and the output head are not counted. With `--workers`, images are loaded in other variants' turns
too: use none, or long turns.
"""

import json
import sys
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.training_options import TrainingOptions
from geoclick import config, files
from geoclick.command import Command
from geoclick.errors import GeoClickError

if TYPE_CHECKING:
    from benchmarks.interleaved import Variant
    from benchmarks.training_variants import Setup

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations per second by name of the GPU, from NVIDIA's data sheets."""


def measure(options: TrainingOptions, folder: Path) -> dict[str, Any]:
    """Train all variants and return the content of training.json."""
    import datasets
    import torch

    from benchmarks import training_variants
    from benchmarks.interleaved import train_interleaved
    from benchmarks.training_rows import resize_store
    from geoclick import devices
    from geoclick.train.data import rows

    datasets.disable_progress_bars()
    # Deprecations inside the libraries.
    warnings.filterwarnings("ignore", category=FutureWarning)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = devices.choose(options.device)
    vlm = training_variants.load_model(options, device)
    side = options.side or (None if options.model == "embedded" else 800)
    clicks, root, images = resize_store(options, side, folder)
    dataset, _ = rows.build(
        clicks, root, vlm, answer_format="compact", max_clicks=options.max_clicks, min_iou=0.0
    )
    if len(dataset) < options.batch:
        raise GeoClickError(f"The store has {len(dataset)} rows, fewer than a batch; lower --batch.")
    difference = training_variants.packed_loss_difference(vlm, dataset.select(range(min(8, len(dataset)))))
    setup = training_variants.prepare(options, vlm, dataset, folder)
    variants = [training_variants.build(setup, name) for name in options.ways]
    train_interleaved(variants, steps=options.steps, device=device)
    return describe(setup) | {
        "images": images,
        "loss_packed_against_alone": difference,
        "ways": compare(variants, peak_of(setup)),
    }


def describe(setup: "Setup") -> dict[str, Any]:
    """The model, the machine and the data."""
    import torch

    vlm, rows = setup.vlm, setup.rows
    cuda = vlm.device.type == "cuda"
    return {
        "model": setup.options.model,
        "parameters": sum(p.numel() for p in vlm.model.parameters()),
        "precision": str(vlm.model.dtype).removeprefix("torch."),
        "attention": vlm.model.config._attn_implementation,
        "gradient_checkpointing": setup.options.gradient_checkpointing,
        "device": torch.cuda.get_device_name(vlm.device) if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "rows": len(rows),
        "image_sizes": sorted({"x".join(map(str, size)) for size in rows.image_sizes().values()}),
        "features_seconds": round(setup.feature_seconds, 2),
    }


def peak_of(setup: "Setup") -> float | None:
    """Peak operations per second of the GPU in bfloat16; None for other precisions and devices."""
    import torch

    device = setup.vlm.device
    if device.type != "cuda" or setup.vlm.model.dtype != torch.bfloat16:
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for gpu, peak in PEAKS.items() if gpu in name), None)


def compare(variants: "list[Variant]", peak: float | None) -> dict[str, dict[str, Any]]:
    """The figures of each variant by name, with its speed relative to TRL's."""
    by_name = {variant.name: figures(variant, peak) for variant in variants}
    if "trl" not in by_name:
        return by_name
    trl = by_name["trl"]
    for values in by_name.values():
        ratio = values["samples_per_second"] / trl["samples_per_second"]
        values["times_trl"] = round(ratio, 2)
        ratio *= values["seconds"] / values["cpu_seconds"] * trl["cpu_seconds"] / trl["seconds"]
        values["times_trl_by_cpu_seconds"] = round(ratio, 2)
    return by_name


def figures(variant: "Variant", peak: float | None) -> dict[str, Any]:
    """The figures of a variant's timed turns."""
    measured, trainer = variant.measurement, variant.trainer
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    steps = trainer.state.max_steps - trainer.args.logging_steps
    values = {
        "seconds": round(measured.seconds, 3),
        "cpu_seconds": round(measured.cpu_seconds, 3),
        "samples_per_second": round(measured.samples / measured.seconds, 3),
        "tokens_per_second": round(int(measured.tokens) / measured.seconds, 1),
        "samples_per_step": round(measured.samples / steps, 2),
        "padding": round(1 - int(measured.tokens) / measured.padded_tokens, 4),
        "patches_per_sample": round(measured.patches / measured.samples, 1),
        "loss_of_first_turn": losses[0],
    }
    if measured.peak:
        values["peak_gb"] = round(measured.peak / 1e9, 2)
    if peak:
        values["share_of_peak"] = round(operations(variant) / measured.seconds / peak, 4)
    return values


def operations(variant: "Variant") -> float:
    """Number of operations of a variant, counted as this module's docstring describes."""
    language = visual = merger = lora = 0
    for name, parameter in variant.trainer.model.named_parameters():
        if "lora_" in name:
            lora += parameter.numel()
        elif "language_model.layers" in name:
            language += parameter.numel()
        elif "merger" in name:
            merger += parameter.numel()
        elif "visual" in name and "pos_embed" not in name:
            visual += parameter.numel()
    measured = variant.measurement
    patches_per_token = variant.trainer.processing_class.image_processor.merge_size**2
    training = 6 * language * int(measured.tokens) * (2 + lora / language) / 3
    return training + 2 * measured.patches * (visual + merger / patches_per_token)


def run(options: TrainingOptions) -> None:
    """Measure, and print and write the results."""
    with tempfile.TemporaryDirectory(prefix="geoclick-training-") as folder:
        result = measure(options, Path(folder))
    config.write_config(options, Path(options.output))
    content = json.dumps(result | {"options": asdict(options)}, indent=1) + "\n"
    files.write_whole(Path(options.output) / "training.json", content)
    print(json.dumps(result, indent=1))
    speeds = ", ".join(
        f"{name} {values['samples_per_second']:.2f}" for name, values in result["ways"].items()
    )
    print(f"Samples per second: {speeds}.")


main = Command(
    prog="python -m benchmarks.training",
    options=TrainingOptions,
    run=run,
    description="Compare the speed of geoclick train sft with TRL's SFTTrainer.",
    example="python -m benchmarks.training --clicks STORE --root DATA --output runs/speed",
)


if __name__ == "__main__":
    sys.exit(main())
