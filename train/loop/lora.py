"""The model of a run: its base with new LoRA weights, or with those of the adapter that it starts from."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import EvaConfig, LoraConfig, PeftModel, set_peft_model_state_dict
from transformers import PreTrainedModel, TrainingArguments, set_seed

from geoclick.errors import UsageError
from geoclick.train.options.lora import CHANGES_BASE, LoraOptions
from geoclick.train.options.trl_arguments import partitioned
from geoclick.vlms import adapter as adapters
from geoclick.vlms import adapter_patterns, families
from geoclick.vlms.adapter import AdapterRecord

if TYPE_CHECKING:
    from geoclick.vlms.loading import Vlm


def new_targets(options: LoraOptions, vlm: "Vlm", before: AdapterRecord | None, has: Iterable[str]) -> str:
    """Full-match pattern of the modules with LoRA, of the adapter that the run starts from and of added towers.

    Args:
        options: of the run.
        vlm: its base.
        before: record of the adapter that it starts from, or None.
        has: the towers with LoRA of that adapter.

    Raises:
        GeoClickError: the base has no such modules.
    """
    added = [tower for tower in options.tune if tower not in set(has)]
    families.check_targets(vlm.model, vlm.family, added)
    families.check_modules(vlm.model, vlm.family, added, options.target_modules)
    if options.tune_experts:
        families.expert_weights(vlm.model, vlm.family)
    family = families.FAMILIES[vlm.family]
    pattern = (
        family.lora_targets(added, options.target_modules, experts=options.tune_experts) if added else ""
    )
    return "|".join(filter(None, (before.targets if before else "", pattern)))


def modules_to_save(options: LoraOptions, model: PreTrainedModel, before: AdapterRecord | None) -> list[str]:
    """Full names of the modules that are trained completely, those of the adapter that the run starts from included.

    Raises:
        GeoClickError: the base has no such modules, or a name is not supported.
    """
    found = list(before.modules_to_save) if before else []
    complete = {families.tower_of(f"{name}.weight") for name in found}
    for tower in options.unfreeze:
        if tower not in complete:
            found += families.complete_modules(model, tower)
    return list(dict.fromkeys([*found, *families.named_modules(model, options.modules_to_save)]))


def changes_base(options: LoraOptions) -> bool:
    """Whether the initial LoRA is taken out of the weights of the base."""
    return (options.init_lora_weights or "").startswith(CHANGES_BASE)


def check_initial(options: LoraOptions, arguments: TrainingArguments) -> None:
    """Refuse initial weights that need the complete base in each process, where the launcher partitions it.

    Raises:
        UsageError: with what to use instead.
    """
    if not changes_base(options) and options.init_lora_weights != "eva":
        return
    if partitioned(arguments) or arguments.deepspeed_plugin is not None:
        raise UsageError(
            f"--init-lora-weights {options.init_lora_weights} does not go with DeepSpeed or FSDP; use "
            "accelerate_configs/multi_gpu.yaml, or remove it."
        )


def make_model(
    options: LoraOptions, vlm: "Vlm", arguments: TrainingArguments, record: AdapterRecord
) -> PeftModel:
    """The base with LoRA weights as they are at the start of the run, and those of other towers frozen.

    Args:
        options: of the run.
        vlm: its base.
        arguments: TRL's config of the run.
        record: of the run's adapters.

    Raises:
        GeoClickError: the base or the adapter does not match.
    """
    # PEFT writes this name into adapter_config.json; the folder of a hub cache would mean nothing elsewhere.
    vlm.model.name_or_path = vlm.name
    # As TRL does before it makes random LoRA weights.
    set_seed(arguments.seed)
    if options.adapter:
        config = _added_to(options, vlm.model, record)
        model = start_from(vlm.model, options.adapter, config, arguments)
    else:
        config = _new_config(options, vlm.model, record)
        model = adapters.wrap(
            vlm.model, config, Path("of this run"), float32=in_float32(arguments, vlm.model)
        )
        cast_trained(model, arguments)
    freeze(model, options.tune)
    return model


def start_from(
    model: PreTrainedModel, folder: str, config: LoraConfig, arguments: TrainingArguments
) -> PeftModel:
    """The base with the trainable weights of an adapter.

    Args:
        model: the base.
        folder: of the adapter.
        config: of the adapter, with the targets of the run; modules that the adapter lacks have new weights.
        arguments: TRL's config of the run.

    Raises:
        GeoClickError: the adapter's weights are broken or do not match.
    """
    weights = adapters.read_weights(Path(folder))
    config.inference_mode = False
    config.base_model_name_or_path = None
    wrapped = adapters.wrap(model, config, Path(folder), float32=in_float32(arguments, model))
    cast_trained(wrapped, arguments)
    needed = adapters.needed_weights(wrapped)
    towers = {families.tower_of(name) for name in weights if ".lora_" in name}
    added = [
        name
        for name in needed.keys() - weights.keys()
        if ".lora_" not in name or families.tower_of(name) not in towers
    ]
    adapters.check_names({name: needed[name] for name in needed if name not in added}, weights, Path(folder))
    # A weight that is not set remains as it is.
    set_peft_model_state_dict(wrapped, needed | weights)
    return wrapped


def in_float32(arguments: TrainingArguments, model: PreTrainedModel) -> bool:
    """Whether trained weights are in float32: under DeepSpeed ZeRO-3 they need the dtype of the base."""
    zero3 = partitioned(arguments) and arguments.deepspeed_plugin is not None
    return not zero3 or getattr(model, "is_quantized", False)


def cast_trained(model: PeftModel, arguments: TrainingArguments) -> None:
    """Give modules that are trained completely weights in float32, where the run computes in half precision.

    Raises:
        UsageError: the base is in half precision, but the run does not compute in it.
    """
    if not in_float32(arguments, model.get_base_model()):
        return
    for name, weight in model.named_parameters():
        if weight.requires_grad and ".modules_to_save." in name and weight.dtype != torch.float32:
            if not (arguments.bf16 or arguments.fp16):
                raise UsageError(
                    "Weights of the base in 16 bits and modules that are trained completely need bf16 or fp16; add "
                    "--bf16 true, or --dtype float32."
                )
            weight.data = weight.data.float()


def freeze(model: PeftModel, tune: Collection[str]) -> None:
    """Freeze the LoRA weights of towers that the run does not tune."""
    for name, weight in model.named_parameters():
        if ".lora_" in name and families.tower_of(name) not in tune:
            weight.requires_grad = False


def _new_config(options: LoraOptions, model: PreTrainedModel, record: AdapterRecord) -> LoraConfig:
    eva = (
        {"eva_config": EvaConfig(rho=1.0, use_label_mask=False)} if options.init_lora_weights == "eva" else {}
    )
    return LoraConfig(
        r=options.lora_r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        use_dora=options.use_dora,
        use_rslora=options.use_rslora,
        target_modules=record.targets,
        target_parameters=list(families.EXPERTS) if options.tune_experts else None,
        modules_to_save=record.modules_to_save or None,
        rank_pattern=_of_modules(options.ranks, model, record, experts=options.tune_experts),
        alpha_pattern=_of_modules(options.alphas, model, record, experts=options.tune_experts),
        init_lora_weights=options.init_lora_weights or True,
        task_type="CAUSAL_LM",
        **eva,
    )


def _added_to(options: LoraOptions, model: PreTrainedModel, record: AdapterRecord) -> LoraConfig:
    """The config of the adapter that the run starts from, with what the run adds to it."""
    folder = Path(str(options.adapter))
    config, names = adapters.read_config(folder), [name for name, _ in model.named_modules()]
    adapter_patterns.check(config, names, folder)
    old = {name for name in names if _matches(config.target_modules, name)}
    config.target_modules = record.targets
    adapter_patterns.check(config, names, folder)
    r, alpha = options.lora_r or config.r, options.lora_alpha or round(config.lora_alpha)
    ranks = {tower: r for tower in options.tune if r != config.r} | options.ranks
    alphas = {tower: alpha for tower in options.tune if alpha != round(config.lora_alpha)}
    new = _of_modules(ranks, model, record), _of_modules(alphas | options.alphas, model, record)
    for pattern, numbers in zip((config.rank_pattern, config.alpha_pattern), new, strict=True):
        pattern |= {name: number for name, number in numbers.items() if name not in old}
    config.modules_to_save = record.modules_to_save or None
    config.lora_dropout, config.init_lora_weights = options.lora_dropout, True
    config.task_type = "CAUSAL_LM"
    return config


def _matches(targets: str | Collection[str], name: str) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(f".{name}".endswith(f".{target}") for target in targets)


def _of_modules(
    numbers: dict[str, int], model: PreTrainedModel, record: AdapterRecord, *, experts: bool = False
) -> dict[str, int]:
    """Numbers of towers as numbers of their modules with LoRA, and of the weights of experts with LoRA."""
    pattern = re.compile(record.targets)
    names = [name for name, _ in model.named_modules() if pattern.fullmatch(name)]
    if experts:
        names += [name for name, _ in model.named_parameters() if name.endswith(families.EXPERTS)]
    return {
        name: numbers[tower] for name in names if (tower := families.tower_of(f"{name}.weight")) in numbers
    }
