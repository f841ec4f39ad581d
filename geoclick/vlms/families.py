"""The Qwen-VL families, and which of their modules LoRA adapts."""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoclick.errors import GeoClickError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

TOWERS = ("language_model", "projector", "vision")
"""The parts of a Qwen-VL that LoRA can adapt; by default only the first one is adapted."""

ATTENTION = r"self_attn\.[qkvo]_proj"
LINEAR_ATTENTION = r"linear_attn\.(in_proj_(qkv|z|a|b)|out_proj)"
MLP = r"mlp\.(gate|up|down)_proj"
SHARED_EXPERT = r"mlp\.shared_expert\.(gate|up|down)_proj"

EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
"""Ends of the names of the experts' weights, one parameter [experts, outputs, inputs] for all experts of a layer."""


def _layers(*parts: str) -> str:
    return rf"model\.language_model\.layers\.\d+\.({'|'.join(parts)})"


LORA_TARGETS = _layers(ATTENTION, MLP)
"""Full-match pattern of the language model's attention and MLP projections in families of attention and dense MLPs.

It is anchored because Qwen2.5-VL's vision MLP has `gate_proj`, `up_proj` and `down_proj` too: a list of
suffixes would silently adapt the vision tower, too.
"""


@dataclass(frozen=True)
class Family:
    """A family of checkpoints.

    Attributes:
        name: the `model_type` of its config, and the codec's name for it.
        projector: pattern of the layers between vision and language, below `model.visual`.
        vision_mlp: pattern of the layers of a vision block's MLP.
        experts: whether the language model is a mixture of experts; by default LoRA adapts its attention only.
        recurrent: whether most layers of the language model are linear attention (gated delta net). They pass a state
            from token to token, which no attention mask restricts.
    """

    name: str
    projector: str
    vision_mlp: str
    experts: bool = False
    recurrent: bool = False

    def lora_targets(
        self, towers: Iterable[str] = TOWERS[:1], modules: Iterable[str] = (), *, experts: bool = False
    ) -> str:
        """Full-match pattern of the modules that LoRA adapts in some towers, by their names in the complete model.

        Args:
            towers: of TOWERS.
            modules: names, or ends of names, of the modules in these towers; none adapts all of them.
            experts: whether the shared expert and dense MLPs of a mixture of experts are included. The experts
                themselves are no modules, see EXPERTS.
        """
        language = [ATTENTION, *[LINEAR_ATTENTION] * self.recurrent]
        language += [MLP] if not self.experts else [MLP, SHARED_EXPERT] if experts else []
        patterns = {
            "language_model": _layers(*language),
            "projector": rf"model\.visual\.{self.projector}",
            "vision": rf"model\.visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.{self.vision_mlp})",
        }
        pattern = "|".join(patterns[tower] for tower in TOWERS if tower in set(towers))
        ends = "|".join(map(re.escape, modules))
        return rf"(?=(?:.*\.)?(?:{ends})$)(?:{pattern})" if ends else pattern

    def towers_of(self, targets: str) -> tuple[str, ...]:
        """The towers whose modules a pattern of `lora_targets` matches.

        Raises:
            GeoClickError: it is no such pattern.
        """
        for count in range(1, len(TOWERS) + 1):
            for towers in itertools.combinations(TOWERS, count):
                if targets == self.lora_targets(towers):
                    return towers
        raise GeoClickError(
            "The adapter's record has LoRA targets that this GeoClick does not know; train the adapter again, or use "
            "the GeoClick that wrote it."
        )


_QWEN2_MERGER = r"merger\.mlp\.(0|2)"
_QWEN3_MERGER = r"(merger|deepstack_merger_list\.\d+)\.linear_fc[12]"
_QWEN3_5_MERGER = r"merger\.linear_fc[12]"

FAMILIES = {
    family.name: family
    for family in (
        Family("qwen2_vl", _QWEN2_MERGER, "fc[12]"),
        Family("qwen2_5_vl", _QWEN2_MERGER, "(gate|up|down)_proj"),
        Family("qwen3_vl", _QWEN3_MERGER, "linear_fc[12]"),
        Family("qwen3_vl_moe", _QWEN3_MERGER, "linear_fc[12]", experts=True),
        Family("qwen3_5", _QWEN3_5_MERGER, "linear_fc[12]", recurrent=True),
        Family("qwen3_5_moe", _QWEN3_5_MERGER, "linear_fc[12]", experts=True, recurrent=True),
    )
}


def family_of(model_type: str) -> str:
    """The family's name for a config's `model_type`; raises GeoClickError unless it is a Qwen-VL."""
    if model_type not in FAMILIES:
        raise GeoClickError(
            f"The model is of type {model_type!r}, but GeoClick supports {', '.join(FAMILIES)}; "
            "give a Qwen-VL model."
        )
    return model_type


def tower_of(name: str) -> str:
    """The tower of a parameter of a model, wrapped or not; `other` if it is in none."""
    if ".visual." in name:
        return "projector" if "merger" in name else "vision"
    return "language_model" if ".language_model." in name else "other"


def check_targets(model: "PreTrainedModel", family: str, towers: Iterable[str]) -> None:
    """Refuse a base model whose module names do not match the LoRA patterns, before it is wrapped.

    Args:
        model: the base, not wrapped.
        family: its family's name.
        towers: to adapt.

    Raises:
        GeoClickError: a tower has no such module, or a layer of the language model lacks some.
    """
    modules = [name for name, _ in model.named_modules()]
    for tower in towers:
        pattern = re.compile(FAMILIES[family].lora_targets([tower]))
        matches = sum(pattern.fullmatch(name) is not None for name in modules)
        wanted = _projections(model.config.text_config, family) if tower == TOWERS[0] else max(matches, 1)
        if matches != wanted:
            raise GeoClickError(
                f"LoRA matches {matches} modules of the {tower} of this {family} instead of {wanted}: their names "
                "have changed; install a version of transformers that this GeoClick supports."
            )


def _projections(config: "PreTrainedConfig", family: str) -> int:
    """The number of modules that `lora_targets` matches in a language model, by its config."""
    layers = config.num_hidden_layers
    linear = list(getattr(config, "layer_types", None) or ()).count("linear_attention")
    mlps = 0 if FAMILIES[family].experts else 3 * layers
    return 4 * (layers - linear) + 5 * linear + mlps


def expert_weights(model: "PreTrainedModel", family: str) -> list[str]:
    """Full names of the parameters that hold the experts' weights.

    Raises:
        GeoClickError: the family has no experts, or the parameters have other names.
    """
    if not FAMILIES[family].experts:
        known = ", ".join(name for name, one in FAMILIES.items() if one.experts)
        raise GeoClickError(
            f"--tune-experts is for mixtures of experts ({known}), and this is {family}; remove it."
        )
    found = [name for name, _ in model.named_parameters() if name.endswith(EXPERTS)]
    if not found:
        raise GeoClickError(
            f"This {family} has no parameters {' and '.join(EXPERTS)}: their names have changed; install a version of "
            "transformers that this GeoClick supports."
        )
    return found


def check_modules(
    model: "PreTrainedModel", family: str, towers: Iterable[str], modules: Iterable[str]
) -> None:
    """Refuse names of modules to adapt that the towers do not have; raises GeoClickError with their own names."""
    pattern = re.compile(FAMILIES[family].lora_targets(towers))
    names = [name for name, _ in model.named_modules() if pattern.fullmatch(name)]
    for module in modules:
        if not any(f".{name}".endswith(f".{module}") for name in names):
            known = sorted({name.rpartition(".")[2] for name in names})
            raise GeoClickError(
                f"--target-modules {module} is in none of the tuned towers; they have {', '.join(known)}."
            )


def complete_modules(model: "PreTrainedModel", tower: str) -> list[str]:
    """Full names of the modules that hold all weights of the projector or the vision tower; none is inside another."""
    found = []
    for name, child in model.model.visual.named_children():
        # PEFT cannot train a list of modules as one.
        parts = [f"{name}.{i}" for i in range(len(child))] if hasattr(child, "__len__") else [name]
        found += [f"model.visual.{part}" for part in parts if any(True for _ in child.parameters())]
    return [name for name in found if tower_of(f"{name}.weight") == tower]


def named_modules(model: "PreTrainedModel", names: Iterable[str]) -> list[str]:
    """Full names of the modules with these names or ends of names, whose weights are to be trained completely.

    Raises:
        GeoClickError: there is none, it has no weights, or it is a head or an embedding.
    """
    modules, found = dict(model.named_modules()), []
    for name in names:
        matching = [full for full in modules if f".{full}".endswith(f".{name}")]
        if not matching or not any(True for _ in modules[matching[0]].parameters()):
            raise GeoClickError(
                f"--modules-to-save {name} is no module with weights; give a name such as norm."
            )
        if any("embed_tokens" in full or full.endswith("lm_head") for full in matching):
            raise GeoClickError(
                f"--modules-to-save {name} is not supported: answers need no new tokens, and head and embeddings may "
                "be one matrix; remove it."
            )
        found += [full for full in matching if full not in found]
    return found


def check_trainable(model: "nn.Module", towers: Iterable[str] = TOWERS[:1]) -> None:
    """Refuse a model with trainable parameters outside `towers`, or without any in one of them.

    Raises:
        GeoClickError: with the first wrong parameter.
    """
    towers = set(towers)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    missing = sorted(towers - set(map(tower_of, names)))
    if missing:
        raise GeoClickError(
            f"No parameter of {missing[0]} is trainable; check that the LoRA targets match the model's modules."
        )
    wrong = [name for name in names if tower_of(name) not in towers]
    if wrong:
        raise GeoClickError(
            f"{len(wrong)} trainable parameters are outside {', '.join(sorted(towers))}, such as {wrong[0]}; "
            "restrict the LoRA targets, or add that tower."
        )


def trainable_by_tower(model: "nn.Module") -> dict[str, int]:
    """Number of trainable parameters in each tower and in `other`."""
    counts = dict.fromkeys((*TOWERS, "other"), 0)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # Under DeepSpeed ZeRO-3 a parameter is empty here; its real size is in an attribute.
            counts[tower_of(name)] += getattr(parameter, "ds_numel", parameter.numel())
    return counts
