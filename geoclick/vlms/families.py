"""The Qwen-VL families: how each writes coordinates, and which of its modules LoRA may touch."""

from collections import Counter
from dataclasses import dataclass

from torch import nn

from geoclick.errors import GeoClickError

LORA_TARGETS = r"model\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
"""Full-match pattern of the language model's attention and MLP projections, the same in all families.

It is anchored because Qwen2.5-VL's vision MLP has `gate_proj`, `up_proj` and `down_proj` too: a list of
suffixes would adapt the vision tower in silence.
"""


@dataclass(frozen=True)
class Family:
    """What GeoClick must know about a family of checkpoints.

    Attributes:
        name: the `model_type` of its config, and the codec's name for it.
        coordinate_factor: pixels a side of one visual token (patch x merge); images are resized to multiples.
        absolute: whether coordinates in text are pixels of the resized image; else 0-1000 of its sides.
        lora_targets: full-match pattern of the modules that LoRA adapts, named from the whole model.
    """

    name: str
    coordinate_factor: int
    absolute: bool = False
    lora_targets: str = LORA_TARGETS


FAMILIES = {
    family.name: family
    for family in (
        Family("qwen2_vl", 28),
        Family("qwen2_5_vl", 28, absolute=True),
        Family("qwen3_vl", 32),
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


def check_trainable(model: nn.Module) -> None:
    """Refuse a model with nothing to train, or one whose trainable parameters reach into the vision tower.

    Raises:
        GeoClickError: naming the first offender.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not names:
        raise GeoClickError(
            "No parameter is trainable; check that the LoRA targets match the model's modules."
        )
    visual = [name for name in names if "visual" in name]
    if visual:
        raise GeoClickError(
            f"{len(visual)} trainable parameters lie in the vision tower, such as {visual[0]}; "
            "restrict the LoRA targets to the language model."
        )


def trainable_by_tower(model: nn.Module) -> dict[str, int]:
    """Numbers of trainable parameters in `language_model`, `visual` and `other`; the sum is all of them."""
    counts = Counter(language_model=0, visual=0, other=0)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            tower = next((t for t in ("visual", "language_model") if t in name), "other")
            # Under DeepSpeed ZeRO-3 a parameter is empty here and carries its real size beside it.
            counts[tower] += getattr(parameter, "ds_numel", parameter.numel())
    return dict(counts)
