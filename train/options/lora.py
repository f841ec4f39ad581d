"""What a supervised run trains, and the adapter that it starts from."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from geoclick.config import option
from geoclick.errors import GeoClickError, UsageError

TOWERS = ("language_model", "projector", "vision")
ONLY_LANGUAGE = TOWERS[:1]
INITIAL_WEIGHTS = ("gaussian", "pissa", "pissa_niter_4", "pissa_niter_16", "olora", "eva")
CHANGES_BASE = ("pissa", "olora")
"""Starts of the initializations that take the initial LoRA out of the weights of the base."""

DEFAULT_R, DEFAULT_ALPHA = 32, 64


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """What a run trains. Options whose default depends on the adapter are None, or empty, until `resolve`."""

    adapter: str | None = option(
        None,
        help="adapter folder of a run of sft or grpo to start from; base, answer format, pixel limits, ranks and tuned "
        "towers are its own, if they are not given",
    )
    tune: tuple[str, ...] = option(
        (),
        help="towers whose LoRA is trained (default: the language model, or the towers of --adapter); one that "
        "--adapter lacks is added, one that is not named stays as it is",
        choices=TOWERS,
    )
    unfreeze: tuple[str, ...] = option(
        (), help="towers that are trained completely, without LoRA", choices=TOWERS[1:]
    )
    target_modules: tuple[str, ...] = option(
        (),
        help="names of the modules in the tuned towers that get LoRA, such as q_proj v_proj (default: all)",
    )
    tune_experts: bool = option(
        False,
        help="of a mixture of experts also adapt the experts, the shared expert and dense MLPs (default: its attention "
        "only)",
    )
    modules_to_save: tuple[str, ...] = option(
        (), help="names of modules that are trained completely and stored in the adapter, such as norm"
    )
    lora_r: int | None = option(None, help=f"LoRA rank (default: {DEFAULT_R})", minimum=1)
    lora_alpha: int | None = option(
        None,
        help=f"LoRA scale: the update is multiplied by alpha / rank (default: {DEFAULT_ALPHA})",
        minimum=1,
    )
    rank_pattern: tuple[str, ...] = option(
        (), help="other LoRA ranks of towers, as TOWER=RANK, such as projector=8 vision=16"
    )
    alpha_pattern: tuple[str, ...] = option((), help="other LoRA scales of towers, as TOWER=ALPHA")
    lora_dropout: float | None = option(None, help="dropout of LoRA (default: 0)", minimum=0)
    use_dora: bool = option(False, help="decompose weights into magnitude and direction (DoRA)")
    use_rslora: bool = option(False, help="scale by alpha / sqrt(rank) instead")
    init_lora_weights: str | None = option(
        None,
        help="initial LoRA weights: gaussian; pissa (principal components of each weight, _niter_N: by N iterations of "
        "a fast SVD) or olora (QR), which are stored with twice the rank; eva (components of the activations on the "
        "training rows)",
        choices=INITIAL_WEIGHTS,
    )
    projector_lr: float | None = option(
        None, help="learning rate of the projector (default: learning_rate)", minimum=0
    )
    vision_lr: float | None = option(
        None, help="learning rate of the vision tower (default: learning_rate)", minimum=0
    )

    @property
    def trained_towers(self) -> tuple[str, ...]:
        """The towers with trained LoRA, or trained completely."""
        return tuple(tower for tower in TOWERS if tower in {*self.tune, *self.unfreeze})

    @property
    def tower_lr(self) -> dict[str, float]:
        """The learning rates of towers with their own."""
        given = {"projector": self.projector_lr, "vision": self.vision_lr}
        return {tower: lr for tower, lr in given.items() if lr is not None}

    @property
    def ranks(self) -> dict[str, int]:
        """The ranks of towers with their own."""
        return by_tower("rank_pattern", self.rank_pattern)

    @property
    def alphas(self) -> dict[str, int]:
        """The scales of towers with their own."""
        return by_tower("alpha_pattern", self.alpha_pattern)


T = TypeVar("T", bound=LoraOptions)


def by_tower(name: str, values: Iterable[str]) -> dict[str, int]:
    """The numbers of `TOWER=NUMBER`; raises UsageError for anything else."""
    numbers = {}
    for value in values:
        tower, _, number = value.partition("=")
        if tower not in TOWERS or not number.isdecimal() or int(number) < 1 or tower in numbers:
            raise UsageError(
                f"--{name.replace('_', '-')} takes TOWER=NUMBER once for a tower of {', '.join(TOWERS)}, not {value!r}."
            )
        numbers[tower] = int(number)
    return numbers


def resolve(options: T) -> T:
    """The options with all defaults, those of the adapter included.

    Raises:
        GeoClickError: the adapter has no valid record or configuration.
        UsageError: options contradict each other or the adapter.
    """
    if options.adapter:
        options = _from_adapter(options, options.adapter)
    else:
        options = dataclasses.replace(
            options,
            tune=options.tune or ONLY_LANGUAGE,
            lora_r=options.lora_r or DEFAULT_R,
            lora_alpha=options.lora_alpha or DEFAULT_ALPHA,
            lora_dropout=options.lora_dropout or 0.0,
        )
    check(options)
    return options


def check(options: LoraOptions) -> None:
    """Refuse options that contradict each other; raises UsageError."""
    for tower in options.tower_lr:
        if tower not in options.trained_towers:
            raise UsageError(
                f"--{tower}-lr is given but {tower} is not tuned; name it in --tune, or remove the flag."
            )
    for name, numbers in (("rank-pattern", options.ranks), ("alpha-pattern", options.alphas)):
        for tower in numbers:
            if tower not in options.tune:
                raise UsageError(
                    f"--{name} names {tower}, which is not tuned; name it in --tune, or remove it."
                )
    for tower in options.unfreeze:
        if tower in options.tune:
            raise UsageError(
                f"{tower} cannot be in --tune and in --unfreeze: it has LoRA, or is trained completely; name it once."
            )
    initial = options.init_lora_weights or ""
    if initial.startswith(CHANGES_BASE):
        _check_convertible(options, initial)
    if options.tune_experts and not options.adapter:
        _check_experts(options)
    if initial == "eva" and set(options.tune) != set(ONLY_LANGUAGE):
        raise UsageError("--init-lora-weights eva is for the language model; use --tune language_model.")


def _check_convertible(options: LoraOptions, initial: str) -> None:
    """Refuse what cannot be stored as an adapter of the unchanged base."""
    for name in ("use_dora", "quantise"):
        if getattr(options, name, None):
            raise UsageError(
                f"--init-lora-weights {initial} does not go with {name}: the adapter would not work on the unchanged "
                "base; remove one of them."
            )
    if options.use_rslora and (options.rank_pattern or options.alpha_pattern):
        raise UsageError(
            f"--init-lora-weights {initial} with use_rslora takes one rank for all towers; remove --rank-pattern and "
            "--alpha-pattern."
        )


def _check_experts(options: LoraOptions) -> None:
    """Refuse what PEFT does not support for parameters that are no modules."""
    others = {
        "lora_dropout": options.lora_dropout,
        "use_dora": options.use_dora,
        "init_lora_weights": options.init_lora_weights,
        "target_modules": options.target_modules,
        "quantise": getattr(options, "quantise", None),
    }
    for name, value in others.items():
        if value:
            raise UsageError(f"--tune-experts does not go with {name}; remove one of them.")
    if TOWERS[0] not in options.tune:
        raise UsageError("--tune-experts adapts the language model; name language_model in --tune.")


class OwnLora(NamedTuple):
    """The LoRA of an adapter, by its adapter_config.json.

    Attributes:
        r: rank.
        alpha: scale, rounded.
        dropout: of its training.
        use_dora: whether it is DoRA.
        use_rslora: whether it is rsLoRA.
        experts: whether it adapts experts.
    """

    r: int
    alpha: int
    dropout: float
    use_dora: bool
    use_rslora: bool
    experts: bool


def read_lora(folder: str) -> OwnLora:
    """The LoRA of an adapter, before PEFT is imported; raises GeoClickError if its configuration is broken."""
    path = Path(folder) / "adapter_config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        r, alpha, dropout = values["r"], values["lora_alpha"], float(values.get("lora_dropout") or 0)
        flags = (bool(values.get(name)) for name in ("use_dora", "use_rslora", "target_parameters"))
        if isinstance(r, int) and isinstance(alpha, int | float):
            return OwnLora(r, round(alpha), dropout, *flags)
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError, OverflowError):
        pass
    raise GeoClickError(f"{path} is missing or broken; copy the adapter folder again or retrain it.")


def _from_adapter(options: T, adapter: str) -> T:
    """The options of a run that starts from an adapter."""
    from geoclick.vlms import adapter_towers
    from geoclick.vlms.adapter import read_record
    from geoclick.vlms.families import tower_of

    record, own = read_record(adapter), read_lora(adapter)
    has = adapter_towers.towers(record)
    for tower in options.unfreeze:
        if tower in has:
            raise UsageError(
                f"The adapter has LoRA in {tower}: --unfreeze cannot train it; use --tune {tower}."
            )
    _check_of_adapter(options, set(options.tune) - set(has), own)
    complete = {tower_of(f"{name}.weight") for name in record.modules_to_save}
    return dataclasses.replace(
        options,
        tune=options.tune or has,
        lora_r=options.lora_r or own.r,
        lora_alpha=options.lora_alpha or own.alpha,
        lora_dropout=own.dropout if options.lora_dropout is None else options.lora_dropout,
        unfreeze=tuple(tower for tower in TOWERS[1:] if tower in {*options.unfreeze, *complete}),
        use_dora=own.use_dora,
        use_rslora=own.use_rslora,
        tune_experts=own.experts,
    )


def _check_of_adapter(options: LoraOptions, added: set[str], own: OwnLora) -> None:
    """Refuse options that would change the LoRA weights which the adapter has already."""
    for name, has in (
        ("use_dora", own.use_dora),
        ("use_rslora", own.use_rslora),
        ("tune_experts", own.experts),
    ):
        if getattr(options, name) and not has:
            raise UsageError(f"The adapter was trained without {name}, which cannot be changed; remove it.")
    if options.init_lora_weights:
        raise UsageError("The LoRA weights of --adapter are trained already; remove --init-lora-weights.")
    same = {"lora_r": own.r, "lora_alpha": own.alpha}
    names = ("lora_r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern")
    given = [name for name in names if getattr(options, name) not in (None, (), same.get(name))]
    if given and not added:
        raise UsageError(
            f"{given[0]} of --adapter cannot be changed, only given for towers that it lacks; remove it, or name such "
            "a tower in --tune."
        )
    for tower in {*options.ranks, *options.alphas} - added:
        raise UsageError(
            f"The rank and the scale of {tower} are those of --adapter; remove it from the pattern."
        )
