"""LoRA weights that start from the base's own: PiSSA and OLoRA, stored as adapters of the unchanged base, and EVA.

PiSSA and OLoRA take their initial LoRA out of the weights: W = (W - s B0 A0) + s B0 A0. The update of a trained run is
therefore s (B A - B0 A0), an ordinary LoRA of twice the rank: A and A0 below each other, B and -B0 next to each other.
PEFT's `path_initial_model_for_weight_conversion` stores the same, but loads the initial adapter into the model, and
drops modules that are trained completely. Sources: PiSSA (arXiv 2404.02948), OLoRA (2406.01775), EVA (2410.07170).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, initialize_lora_eva_weights, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer

from geoclick.errors import GeoClickError
from geoclick.train.data.collator import ClickCollator
from geoclick.train.data.lazy_rows import LazyRows
from geoclick.vlms import adapter as adapters
from geoclick.vlms.processor import Processor

Weights = dict[str, torch.Tensor]

A, B = ".lora_A.", ".lora_B."
EVA_BATCH = 8
EVA_ROWS = 256
"""Rows whose activations EVA decomposes, evenly spread over the data."""


def of_model(model: PeftModel) -> Weights:
    """A copy of the LoRA matrices, by their names in an adapter's file."""
    weights = adapters.needed_weights(model)
    return {name: value.detach().clone() for name, value in weights.items() if A in name or B in name}


def converted(weights: Mapping[str, torch.Tensor], initial: Weights) -> Weights:
    """The weights of a model, with LoRA matrices of twice the rank that suit the unchanged base.

    Args:
        weights: by their names in the model or in an adapter's file.
        initial: of `of_model` before the first step.
    """
    result = dict(weights)
    for name, value in weights.items():
        start = initial.get(name.replace(".default.", "."))
        if start is None:
            continue
        start = start.to(value.device, value.dtype)
        result[name] = torch.cat([value, start] if A in name else [value, -start], dim=0 if A in name else 1)
    return result


def convert_config(config: LoraConfig) -> None:
    """Change the config of a model to that of its converted weights."""
    config.r *= 2
    # The scale is alpha / r, with rsLoRA alpha / sqrt(r).
    config.lora_alpha *= 2**0.5 if config.use_rslora else 2
    config.rank_pattern = {name: 2 * rank for name, rank in (config.rank_pattern or {}).items()}
    config.alpha_pattern = {name: 2 * alpha for name, alpha in (config.alpha_pattern or {}).items()}


def restore(model: PeftModel, folder: Path, initial: Weights) -> Weights:
    """Set the weights of a checkpoint, and take its initial LoRA out of the base if that of this session differs.

    A decomposition is unique up to signs and rounding, which differ between machines.

    Args:
        model: with the LoRA of this session's initialization.
        folder: of the checkpoint, with converted weights.
        initial: of this session.

    Returns:
        The initial weights of the checkpoint.
    """
    stored, trained, first = adapters.read_weights(folder), Weights(), Weights()
    for name, value in stored.items():
        trained[name] = value
        if name in initial:
            one, two = value.chunk(2, dim=0 if A in name else 1)
            trained[name], first[name] = one.contiguous(), (two if A in name else -two).contiguous()
    for name, layer in _layers(model):
        mine, other = ((some[f"{name}{A}weight"], some[f"{name}{B}weight"]) for some in (initial, first))
        if not (torch.equal(mine[0].cpu(), other[0]) and torch.equal(mine[1].cpu(), other[1])):
            base = layer.get_base_layer().weight
            difference = mine[1].cpu().float() @ mine[0].cpu().float() - other[1].float() @ other[0].float()
            base.data += (layer.scaling["default"] * difference).to(base.device, base.dtype)
    set_peft_model_state_dict(model, trained)
    return first


def eva_batches(rows: LazyRows, processor: Processor) -> list[dict[str, torch.Tensor]]:
    """Padded batches of rows from all of the data."""
    collator, step = ClickCollator(processor), max(1, len(rows) // EVA_ROWS)
    chosen = rows.__getitems__(range(0, len(rows), step)[:EVA_ROWS])
    return [collator(chosen[start : start + EVA_BATCH]) for start in range(0, len(chosen), EVA_BATCH)]


def start_eva(
    model: PeftModel,
    batches: Sequence[dict[str, torch.Tensor]],
    device: torch.device,
    precision: AbstractContextManager[None],
) -> None:
    """Set lora_A to the main directions of the activations on some rows; the model still computes the same.

    Args:
        model: with `init_lora_weights="eva"`.
        batches: padded batches of rows, without cached features.
        device: of the model.
        precision: that training computes in.

    Raises:
        GeoClickError: a batch has fewer tokens than the rank.
    """
    config = model.peft_config["default"]
    fewest = min(int(batch["attention_mask"].sum()) for batch in batches)
    if fewest < config.r:
        raise GeoClickError(
            f"--init-lora-weights eva needs as many tokens in {EVA_BATCH} rows as the rank, {config.r}, but some have "
            f"{fewest}; lower --lora-r."
        )
    before = {name: getattr(config, name) for name in ("target_modules", "rank_pattern", "alpha_pattern")}

    def forward(model: PeftModel, batch: dict[str, torch.Tensor]) -> None:
        with precision:
            model(**{name: value for name, value in batch.items() if name != "labels"})

    moved = [{name: value.to(device) for name, value in batch.items()} for batch in batches]
    initialize_lora_eva_weights(
        model, moved, forward_fn=forward, gather_distributed_inputs=False, show_progress_bar=False
    )
    # PEFT lists the modules; all ranks are as given.
    vars(config).update(before)


def _layers(model: PeftModel) -> Iterator[tuple[str, LoraLayer]]:
    """The layers with LoRA, by the beginning of their names in an adapter's file."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module
