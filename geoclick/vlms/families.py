"""The Qwen-VL families: how each writes coordinates, and which of its modules LoRA may touch."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from geoclick.errors import GeoClickError

TOWERS = ("language_model", "projector", "vision")
"""The parts of a Qwen-VL, each with LoRA of its own; only the first is adapted unless asked."""

LORA_TARGETS = r"model\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
"""Full-match pattern of the language model's attention and MLP projections, the same in all families.

It is anchored because Qwen2.5-VL's vision MLP has `gate_proj`, `up_proj` and `down_proj` too: a list of
suffixes would adapt the vision tower in silence.
"""

PROJECTIONS = 7
"""Modules of a layer of the language model that LORA_TARGETS matches."""


@dataclass(frozen=True)
class Family:
    """What GeoClick must know about a family of checkpoints.

    Attributes:
        name: the `model_type` of its config, and the codec's name for it.
        coordinate_factor: pixels a side of one visual token (patch x merge); images are resized to multiples.
        projector: pattern of the layers between vision and language, below `model.visual`.
        vision_mlp: pattern of the layers of a vision block's MLP.
        absolute: whether coordinates in text are pixels of the resized image; else 0-1000 of its sides.
    """

    name: str
    coordinate_factor: int
    projector: str
    vision_mlp: str
    absolute: bool = False

    def lora_targets(self, towers: Iterable[str] = TOWERS[:1]) -> str:
        """Full-match pattern of the modules that LoRA adapts in some towers, named from the whole model."""
        patterns = {
            "language_model": LORA_TARGETS,
            "projector": rf"model\.visual\.{self.projector}",
            "vision": rf"model\.visual\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.{self.vision_mlp})",
        }
        return "|".join(patterns[tower] for tower in TOWERS if tower in set(towers))


_QWEN2_MERGER = r"merger\.mlp\.(0|2)"
_QWEN3_MERGER = r"(merger|deepstack_merger_list\.\d+)\.linear_fc[12]"

FAMILIES = {
    family.name: family
    for family in (
        Family("qwen2_vl", 28, _QWEN2_MERGER, "fc[12]"),
        Family("qwen2_5_vl", 28, _QWEN2_MERGER, "(gate|up|down)_proj", absolute=True),
        Family("qwen3_vl", 32, _QWEN3_MERGER, "linear_fc[12]"),
    )
}


def family_of(model_type: str) -> str:
    """The family's name for a config's `model_type`; raises GeoClickError for anything but Qwen-VL."""
    if model_type not in FAMILIES:
        raise GeoClickError(
            f"The model is of type {model_type!r}, but GeoClick knows {', '.join(FAMILIES)}; "
            "give a Qwen-VL model."
        )
    return model_type


def tower_of(name: str) -> str:
    """The tower that a parameter of a model, wrapped or not, belongs to; `other` where it is in none."""
    if ".visual." in name:
        return "projector" if "merger" in name else "vision"
    return "language_model" if ".language_model." in name else "other"


def check_targets(model: nn.Module, family: str, towers: Iterable[str]) -> None:
    """Refuse a base model whose modules are not named as LoRA's patterns name them, before it is wrapped.

    Args:
        model: the base, not wrapped.
        family: its family's name.
        towers: that are to be adapted.

    Raises:
        GeoClickError: a tower has no such module, or the language model not all of them in every layer.
    """
    modules = [name for name, _ in model.named_modules()]
    for tower in towers:
        pattern = re.compile(FAMILIES[family].lora_targets([tower]))
        found = sum(pattern.fullmatch(name) is not None for name in modules)
        wanted = (
            PROJECTIONS * model.config.text_config.num_hidden_layers if tower == TOWERS[0] else max(found, 1)
        )
        if found != wanted:
            raise GeoClickError(
                f"LoRA would find {found} modules of the {tower} of this {family} in place of {wanted}: their names "
                "have changed; use a version of transformers that this GeoClick asks for."
            )


def check_trainable(model: nn.Module, towers: Iterable[str] = TOWERS[:1]) -> None:
    """Refuse a model whose trainable parameters lie elsewhere than in `towers`, or leave one of them out.

    Raises:
        GeoClickError: naming the first offender.
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
            f"{len(wrong)} trainable parameters lie outside {', '.join(sorted(towers))}, such as {wrong[0]}; "
            "restrict the LoRA targets, or ask for that tower too."
        )


def trainable_by_tower(model: nn.Module) -> dict[str, int]:
    """Numbers of trainable parameters in each tower and `other`; the sum is all of them."""
    counts = dict.fromkeys((*TOWERS, "other"), 0)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # Under DeepSpeed ZeRO-3 a parameter is empty here and carries its real size beside it.
            counts[tower_of(name)] += getattr(parameter, "ds_numel", parameter.numel())
    return counts
