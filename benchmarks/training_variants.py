"""The trainers that `benchmarks.training` compares, on copies of one model."""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig
from torch.nn import functional
from transformers import PrinterCallback, Trainer
from trl import SFTConfig, SFTTrainer

from benchmarks import random_models
from benchmarks.interleaved import Variant
from benchmarks.training_options import TrainingOptions
from geoclick import vlms
from geoclick.errors import UsageError
from geoclick.train.data import cached_features
from geoclick.train.data.collator import IGNORED, ClickCollator
from geoclick.train.data.lazy_rows import LazyRows
from geoclick.train.data.training_row import TrainingRow
from geoclick.train.data.vision_features import VisionFeatures
from geoclick.train.loop.trainer import ClickTrainer
from geoclick.train.packing import packed_dataset, packed_forward
from geoclick.train.packing.packed_collator import PackedCollator
from geoclick.train.packing.packed_dataset import PackedDataset
from geoclick.vlms import families
from geoclick.vlms.adapter import AdapterRecord
from geoclick.vlms.loading import Vlm


@dataclass(frozen=True)
class Setup:
    """What all variants share.

    Attributes:
        options: of the benchmark.
        vlm: the model that every variant copies.
        rows: of `geoclick.train.data.rows.build`.
        features: cached vision features by image path, if a variant needs them.
        feature_seconds: time that computing them took.
        folder: for the trainers' output.
    """

    options: TrainingOptions
    vlm: Vlm
    rows: LazyRows
    features: Mapping[str, VisionFeatures] | None
    feature_seconds: float
    folder: Path


def load_model(options: TrainingOptions, device: torch.device) -> Vlm:
    """The model; raises UsageError if an architecture has no tokenizer."""
    precision = options.precision
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" else "float32"
    dtype = getattr(torch, precision)
    if options.model == "embedded":
        return vlms.load("embedded", device=device, dtype=dtype)
    if options.tokenizer is None:
        raise UsageError(f"--model {options.model} needs --tokenizer, a folder with Qwen's tokenizer.")
    tokenizer = random_models.load_tokenizer(Path(options.tokenizer))
    return random_models.build(options.model, tokenizer, dtype=dtype, device=device, seed=options.seed)


def prepare(options: TrainingOptions, vlm: Vlm, rows: LazyRows, folder: Path) -> Setup:
    """Compute the vision features, if a variant needs them."""
    if "packed_features" not in options.ways:
        return Setup(options, vlm, rows, None, 0.0, folder)
    start = time.perf_counter()
    sizes = rows.image_sizes()
    autocast = torch.autocast(vlm.device.type, enabled=False)
    features = cached_features.compute(vlm, sizes, device=vlm.device, autocast=autocast, limit=float("inf"))
    return Setup(options, vlm, rows, features, time.perf_counter() - start, folder)


def build(setup: Setup, name: str) -> Variant:
    """A variant by name, with its trainer."""
    device = setup.vlm.device
    cuda = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if cuda else 0
    trainer = _trl_trainer(setup) if name == "trl" else _geoclick_trainer(setup, name)
    trainer.remove_callback(PrinterCallback)
    families.check_trainable(trainer.model)
    return Variant(name, trainer, torch.cuda.memory_allocated(device) - before if cuda else 0)


def _trl_trainer(setup: Setup) -> Trainer:
    """TRL's trainer with its own collator, which takes prompts and completions as text."""
    tokenizer = setup.vlm.processor.tokenizer

    def texts(row: TrainingRow) -> dict[str, str]:
        prompt, completion = tokenizer.batch_decode([row["prompt_ids"], row["completion_ids"]])
        return {"prompt": prompt, "completion": completion}

    rows = datasets.Dataset.from_list([{"images": row["images"], **texts(row)} for row in setup.rows])
    rows = rows.cast_column("images", datasets.Sequence(datasets.Image()))
    model = copy.deepcopy(setup.vlm.model)
    return SFTTrainer(model, train_dataset=rows, **_common_arguments(setup, "trl", setup.options.batch))


def _record(setup: Setup) -> AdapterRecord:
    """The provenance of an adapter that is not saved."""
    vlm = setup.vlm
    return AdapterRecord(
        base=vlm.name,
        revision=vlm.revision,
        family=vlm.family,
        fingerprint=vlm.fingerprint,
        answer_format="compact",
        min_pixels=1,
        max_pixels=1,
        targets=families.LORA_TARGETS,
    )


def _geoclick_trainer(setup: Setup, name: str) -> Trainer:
    """The trainer of `geoclick train sft`, padded or packed."""
    model, packed = copy.deepcopy(setup.vlm.model), name.startswith("packed")
    packs = None
    if packed:
        packs = _pack(setup, share_images=name == "packed")
        packed_forward.prepare(model)
    collator = PackedCollator if packed else ClickCollator
    features = setup.features if name == "packed_features" else None
    return ClickTrainer(
        model,
        train_dataset=setup.rows,
        data_collator=collator(setup.vlm.processor, features),
        record=_record(setup),
        train_on=packs,
        **_common_arguments(setup, name, 1 if packed else setup.options.batch),
    )


def _common_arguments(setup: Setup, name: str, batch: int) -> dict[str, Any]:
    """Arguments of a trainer that do not depend on its class."""
    options, vlm = setup.options, setup.vlm
    cuda = vlm.device.type == "cuda"
    arguments = SFTConfig(
        output_dir=str(setup.folder / name),
        use_cpu=not cuda,
        bf16=vlm.model.dtype == torch.bfloat16,
        per_device_train_batch_size=batch,
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
    return {"args": arguments, "processing_class": vlm.processor, "peft_config": lora}


def _pack(setup: Setup, *, share_images: bool) -> PackedDataset:
    """The rows in packs with the smallest token budget that needs no more packs than there are batches."""
    options, rows, processor = setup.options, setup.rows, setup.vlm.processor
    lengths = rows.token_lengths(processor)
    mean = options.batch * sum(lengths) / len(lengths)
    budget = max(*lengths, round(mean))
    while True:
        packs = packed_dataset.build(
            rows, processor, budget=budget, seed=options.seed, per_step=1, share_images=share_images
        )
        if len(packs) <= max(1, len(rows) // options.batch):
            return packs
        budget += max(1, round(mean / 50))


def packed_loss_difference(vlm: Vlm, rows: LazyRows) -> float:
    """The largest relative difference between the mean loss of a row in a pack and alone in a batch."""
    model = copy.deepcopy(vlm.model)
    packed_forward.prepare(model)

    def logits(batch: dict[str, Any]) -> torch.Tensor:
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "shift_labels")}
        moved = {k: v.to(vlm.device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
        with torch.no_grad():
            return model(**moved, use_cache=False).logits[0].float().cpu()

    pack = PackedCollator(vlm.processor)([list(rows)])
    losses = functional.cross_entropy(logits(pack), pack["shift_labels"][0], reduction="none")
    row_of_loss = torch.bucketize(pack["logits_to_keep"], pack["cu_seq_lens"][1:], right=True)
    differences = []
    for index, row in enumerate(rows):
        batch = ClickCollator(vlm.processor)([row])
        labels = batch["labels"][0, 1:]
        in_answer = labels != IGNORED
        alone = functional.cross_entropy(logits(batch)[:-1][in_answer], labels[in_answer])
        differences.append(abs(losses[row_of_loss == index].mean() / alone - 1).item())
    return max(differences)
