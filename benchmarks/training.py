"""How fast a LoRA run goes: TRL's SFTTrainer as it comes, against `geoclick train sft` padded and packed.

    python -m benchmarks.training --clicks STORE --root DATA --output runs/speed
    python -m benchmarks.training --clicks STORE --root DATA --output runs/speed --model qwen3_vl_2b --tokenizer FOLDER

Each way trains its own copy of the model on the same rows with the same options, in the libraries' own training loop.
They take turns of a few steps, so that whatever else the machine does meets all; the first turn of each is not timed.
TRL's has prompt, completion and images, its own collator and its defaults, besides what all share: learning rate,
batch, precision, checkpointing, `max_length=None`. The tokens of a pack are chosen so that it holds as many rows as a
batch, on average.

`--model` is `embedded`, or a shape of benchmarks/random_models.py with random
weights, which sees images enlarged to `--side`.

Work is counted as 2 operations a weight and token forwards, and for training (2 + LoRA/frozen)/3 of 6: layers of the
language model for all tokens but padding, the vision tower forwards for the patches that it sees; no attention scores,
no head. `--workers` fetch images ahead, in other ways' turns too: leave them out, or make turns long.
"""

import copy
import json
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.interleaved import Way, take_turns
from geoclick import config, files
from geoclick.command import Command
from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError

MODELS = ("embedded", "qwen3_vl_small", "qwen3_vl_2b", "qwen2_5_vl_7b")
WAYS = ("trl", "padded", "packed", "packed_features")
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations a second by name of the GPU, from NVIDIA's data sheets."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What `python -m benchmarks.training` takes."""

    clicks: str = option(help="click store made by 'geoclick synth'")
    root: str = option(help="folder of the dataset that the store's images are relative to")
    output: str = option(help="folder for training.json")
    model: str = option("embedded", help="embedded, or a shape with random weights", choices=MODELS)
    tokenizer: str | None = option(
        None, help="folder with Qwen's tokenizer.json or qwen.tiktoken, for a shape with random weights"
    )
    side: int | None = option(
        None,
        help="images are enlarged to this square; none takes 800, and for embedded their own",
        minimum=32,
    )
    rows: int = option(96, help="rows of the store, the first ones", minimum=2)
    max_clicks: int = option(6, help="clicks of an answer at most", minimum=1)
    batch: int = option(8, help="rows of a step", minimum=1)
    turns: int = option(4, help="turns of each way that are timed", minimum=1)
    steps: int = option(3, help="steps of a turn", minimum=1)
    ways: tuple[str, ...] = option(WAYS, help="what is compared", choices=WAYS)
    lora_r: int = option(32, help="rank", minimum=1)
    gradient_checkpointing: bool = option(False, help="compute activations twice, in every way")
    precision: str = option("auto", help="auto is bfloat16 on CUDA", choices=("auto", "float32", "bfloat16"))
    workers: int = option(0, help="processes that fetch images ahead", minimum=0)
    device: str = option("auto", help="auto, cpu or cuda")
    threads: int | None = option(None, help="threads of the CPU; none takes PyTorch's", minimum=1)
    seed: int = option(0, help="of the weights and the order")


def enlarged(options: TrainingOptions, side: int | None, folder: Path) -> tuple[Path, Path, int]:
    """The first rows of the click store, with images and clicks enlarged to a square of `side`.

    Returns:
        The folder of the store, the root of its images, and the number of distinct images.
    """
    from itertools import islice

    import numpy as np
    from PIL import Image

    from geoclick import images, masks, store
    from geoclick.clicks import Click

    root, rows = folder / "data", []
    names = set()
    for row in islice(store.read(options.clicks), options.rows):
        image = images.read_image(store.existing_image(Path(options.root), row.image))
        target = (side, side) if side else image.shape[:2]
        name = f"{row.image.rsplit('.', 1)[0]}.png"
        if name not in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            large = Image.fromarray(image).resize(target[::-1], Image.Resampling.BICUBIC)
            images.write_png(root / name, np.asarray(large))
            names.add(name)
        x, y = target[1] / row.width, target[0] / row.height
        clicks = tuple(Click((c.x + 0.5) * x - 0.5, (c.y + 0.5) * y - 0.5, c.positive) for c in row.clicks)
        mask = masks.encode_rle(np.zeros(target, bool))
        rows.append(replace(row, image=name, width=target[1], height=target[0], clicks=clicks, mask=mask))
    store.write_shard(folder / "clicks", 0, 1, rows)
    return folder / "clicks", root, len(names)


def load(options: TrainingOptions, device: Any, dtype: Any) -> Any:
    """The model that all ways copy."""
    from geoclick import vlms

    if options.model == "embedded":
        return vlms.load("embedded", device=device, dtype=dtype)
    if options.tokenizer is None:
        raise UsageError(f"--model {options.model} needs --tokenizer, a folder with Qwen's tokenizer.")

    from benchmarks import random_models

    words = random_models.tokenizer(Path(options.tokenizer))
    return random_models.build(options.model, words, dtype=dtype, device=device, seed=options.seed)


def build(name: str, vlm: Any, rows: Any, known: Any, options: TrainingOptions, folder: Path) -> Any:
    """The trainer of one way, on a copy of the model."""
    import torch
    from datasets import Image as ImageFeature
    from datasets import Sequence as SequenceFeature
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from geoclick.train.data.collator import ClickCollator
    from geoclick.train.loop.trainer import ClickTrainer
    from geoclick.train.packing import packed_forward
    from geoclick.train.packing.packed_collator import PackedCollator
    from geoclick.vlms import families

    packed = name.startswith("packed")
    model = copy.deepcopy(vlm.model)
    cuda = vlm.device.type == "cuda"
    arguments = SFTConfig(
        output_dir=str(folder / name),
        use_cpu=not cuda,
        bf16=vlm.model.dtype == torch.bfloat16,
        per_device_train_batch_size=1 if packed else options.batch,
        gradient_checkpointing=options.gradient_checkpointing,
        learning_rate=1e-4,
        max_steps=(options.turns + 1) * options.steps,
        max_length=None,
        completion_only_loss=True,
        remove_unused_columns=False,
        dataloader_num_workers=options.workers,
        dataloader_drop_last=True,
        dataloader_pin_memory=cuda,
        logging_steps=options.steps,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=options.seed,
    )
    lora = LoraConfig(
        r=options.lora_r,
        lora_alpha=2 * options.lora_r,
        target_modules=families.FAMILIES[vlm.family].lora_targets(families.TOWERS[:1]),
        task_type="CAUSAL_LM",
    )
    common = {"args": arguments, "processing_class": vlm.processor, "peft_config": lora}
    if name == "trl":
        shown = rows.remove_columns("size").cast_column("images", SequenceFeature(ImageFeature()))
        trainer = SFTTrainer(model, train_dataset=shown, **common)
    else:
        collator = PackedCollator if packed else ClickCollator
        taken = None
        if packed:
            taken = pack(rows, vlm.processor, options, share_images=name == "packed")
            packed_forward.prepare(model)
        trainer = ClickTrainer(
            model,
            train_dataset=rows,
            data_collator=collator(vlm.processor, known if name == "packed_features" else None),
            record=None,
            train_on=taken,
            **common,
        )
    trainer.remove_callback(PrinterCallback)
    families.check_trainable(trainer.model)
    return trainer


def pack(rows: Any, processor: Any, options: TrainingOptions, *, share_images: bool) -> Any:
    """The rows in as many packs as there are batches of them, within the fewest tokens that this works with."""
    from geoclick.train.packing import packs

    lengths = packs.lengths(rows, processor)
    mean = options.batch * sum(lengths) / len(lengths)
    budget = max(*lengths, round(mean))
    while True:
        found = packs.build(
            rows, processor, budget=budget, seed=options.seed, per_step=1, share_images=share_images
        )
        if len(found) <= max(1, len(rows) // options.batch):
            return found
        budget += max(1, round(mean / 50))


def loss_gap(vlm: Any, rows: Any) -> float:
    """The largest relative difference between the mean loss of a row packed with others, and alone in a batch."""
    import torch
    from torch.nn.functional import cross_entropy

    from geoclick.train.data.collator import ClickCollator
    from geoclick.train.packing import packed_forward
    from geoclick.train.packing.packed_collator import PackedCollator

    model = copy.deepcopy(vlm.model)
    packed_forward.prepare(model)

    def logits(batch: dict[str, Any]) -> torch.Tensor:
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "shift_labels")} | {
            "use_cache": False
        }
        moved = {k: v.to(vlm.device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
        with torch.no_grad():
            return model(**moved).logits[0].float().cpu()

    pack = PackedCollator(vlm.processor)([list(rows)])
    each = cross_entropy(logits(pack), pack["shift_labels"][0], reduction="none")
    sample = torch.bucketize(pack["logits_to_keep"], pack["cu_seq_lens"][1:], right=True)
    gaps = []
    for index, row in enumerate(rows):
        batch = ClickCollator(vlm.processor)([row])
        labels = batch["labels"][0, 1:]
        kept = labels != -100
        alone = cross_entropy(logits(batch)[:-1][kept], labels[kept])
        gaps.append(abs(each[sample == index].mean() / alone - 1).item())
    return max(gaps)


def work(way: Way, model: Any) -> float:
    """Operations that a way did, by the convention of this module's description."""
    language = visual = merger = lora = 0
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            lora += parameter.numel()
        elif "language_model.layers" in name:
            language += parameter.numel()
        elif "merger" in name:
            merger += parameter.numel()
        elif "visual" in name and "pos_embed" not in name:
            visual += parameter.numel()
    merge = way.trainer.processing_class.image_processor.merge_size**2
    training = 6 * language * int(way.count.tokens) * (2 + lora / language) / 3
    return training + 2 * way.count.patches * (visual + merger / merge)


def measure(options: TrainingOptions, folder: Path) -> dict[str, Any]:
    """Figures of all ways, side by side."""
    import datasets
    import torch

    from geoclick import devices
    from geoclick.train.data import rows, vision_features

    datasets.disable_progress_bars()
    # Deprecations inside the libraries.
    warnings.filterwarnings("ignore", category=FutureWarning)

    if options.threads:
        torch.set_num_threads(options.threads)
    device = devices.choose(options.device)
    cuda = device.type == "cuda"
    precision = options.precision if options.precision != "auto" else "bfloat16" if cuda else "float32"
    vlm = load(options, device, getattr(torch, precision))
    side = options.side or (None if options.model == "embedded" else 800)
    clicks, root, pictures = enlarged(options, side, folder)
    dataset, _ = rows.build(
        clicks, root, vlm, answer_format="compact", max_clicks=options.max_clicks, min_iou=0.0
    )
    if len(dataset) < options.batch:
        raise GeoClickError(f"The store gives {len(dataset)} rows, less than a batch; lower --batch.")
    gap = loss_gap(vlm, dataset.select(range(min(8, len(dataset)))))
    known, seconds = None, 0.0
    if "packed_features" in options.ways:
        began = time.perf_counter()
        sizes = {paths[0]: tuple(s) for paths, s in zip(dataset["images"], dataset["size"], strict=True)}
        known = vision_features.compute(
            vlm, sizes, device=device, autocast=torch.autocast(device.type, enabled=False), limit=float("inf")
        )
        seconds = time.perf_counter() - began
    ways = []
    for name in options.ways:
        before = torch.cuda.memory_allocated(device) if cuda else 0
        trainer = build(name, vlm, dataset, known, options, folder)
        ways.append(Way(name, trainer, torch.cuda.memory_allocated(device) - before if cuda else 0))
    take_turns(ways, steps=options.steps, device=device)
    peak = next((v for k, v in PEAKS.items() if cuda and k in torch.cuda.get_device_name(device)), None)
    told = {way.name: figures(way, peak if precision == "bfloat16" else None) for way in ways}
    if "trl" in told:
        for name in told:
            ratio = told[name]["samples_per_second"] / told["trl"]["samples_per_second"]
            told[name]["times_trl"] = round(ratio, 2)
            ratio *= told[name]["seconds"] / told[name]["cpu_seconds"]
            ratio *= told["trl"]["cpu_seconds"] / told["trl"]["seconds"]
            told[name]["times_trl_by_cpu_seconds"] = round(ratio, 2)
    return {
        "model": options.model,
        "parameters": sum(p.numel() for p in vlm.model.parameters()),
        "precision": precision,
        "attention": vlm.model.config._attn_implementation,
        "gradient_checkpointing": options.gradient_checkpointing,
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "rows": len(dataset),
        "images": pictures,
        "image_sizes": sorted({"x".join(map(str, size)) for size in dataset["size"]}),
        "loss_packed_against_alone": gap,
        "features_seconds": round(seconds, 2),
        "ways": told,
    }


def figures(way: Way, peak: float | None) -> dict[str, Any]:
    """What training.json says of a way."""
    count, trainer = way.count, way.trainer
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    steps = trainer.state.max_steps - trainer.args.logging_steps
    found = {
        "seconds": round(count.seconds, 3),
        "cpu_seconds": round(count.cpu_seconds, 3),
        "samples_per_second": round(count.samples / count.seconds, 3),
        "tokens_per_second": round(int(count.tokens) / count.seconds, 1),
        "samples_per_step": round(count.samples / steps, 2),
        "padding": round(1 - int(count.tokens) / count.places, 4),
        "patches_per_sample": round(count.patches / count.samples, 1),
        "loss_of_first_turn": losses[0],
    }
    if count.peak:
        found["peak_gb"] = round(count.peak / 1e9, 2)
    if peak:
        found["share_of_peak"] = round(work(way, trainer.model) / count.seconds / peak, 4)
    return found


def run(options: TrainingOptions) -> None:
    """Measure, print and write."""
    with tempfile.TemporaryDirectory(prefix="geoclick-training-") as folder:
        result = measure(options, Path(folder))
    config.write_config(options, Path(options.output))
    result |= {"options": asdict(options)}
    files.write_whole(Path(options.output) / "training.json", json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "options"}, indent=1))
    speeds = ", ".join(f"{name} {way['samples_per_second']:.2f}" for name, way in result["ways"].items())
    print(f"Samples a second: {speeds}.")


main = Command(
    prog="python -m benchmarks.training",
    options=TrainingOptions,
    run=run,
    description="Compare geoclick's training with TRL's SFTTrainer.",
    example="python -m benchmarks.training --clicks STORE --root DATA --output runs/speed",
)


if __name__ == "__main__":
    sys.exit(main())
