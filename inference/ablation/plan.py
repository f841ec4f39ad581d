"""The plan of an ablation: which settings are measured, one axis at a time around a base, or all products of some axes.

For each set of proposals, and each rule by which they become a map, the oracle is measured too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from geoclick.inference.contrastive.settings import ContrastiveSettings

DENSE, ORACLE = "dense", "oracle-proposals"
"""Values of the axis `select` without a rule of selection: CLIP's labels alone, and the majority true class."""


class Model(NamedTuple):
    """A CLIP or a segmenter.

    Attributes:
        name: as the options `--clip` and `--segmenter` take it.
        checkpoint: its weight file, or None.
    """

    name: str
    checkpoint: str | None = None

    def __str__(self) -> str:
        return self.name if self.checkpoint is None else f"{self.name}={self.checkpoint}"


Value = str | float | int | Model | None
"""Of an axis; None takes the default of the models."""


class Axis(NamedTuple):
    """One thing that is varied.

    Attributes:
        title: of its chart.
        option: name of the option with its values.
        numeric: whether its values are numbers in order.
        proposals: whether it changes the proposals or how they become a map, so that the oracle changes too.
    """

    title: str
    option: str
    numeric: bool = False
    proposals: bool = False


AXES = {
    "threshold": Axis("Threshold of the background", "thresholds", numeric=True),
    "scale": Axis("Scale of the cosines (reverse of the temperature)", "scales", numeric=True),
    "class-bias": Axis("Factor of the class token", "class_biases", numeric=True),
    "templates": Axis("Templates", "template_sets"),
    "features": Axis("Features of CLIP", "feature_methods"),
    "clip": Axis("CLIP", "clips"),
    "select": Axis("Selection", "selections"),
    "overlaps": Axis("Order of overlapping proposals", "overlap_orders", proposals=True),
    "uncovered": Axis("Uncovered pixels", "uncovered_rules", proposals=True),
    "points-per-side": Axis("Points along each side", "points", numeric=True, proposals=True),
    "predicted-iou": Axis("Limit of predicted IoU", "predicted_ious", numeric=True, proposals=True),
    "stability": Axis("Limit of stability", "stabilities", numeric=True, proposals=True),
    "segmenter": Axis("Segmenter", "segmenters", proposals=True),
}
"""In the order in which they are measured."""

IN_RULES = ("overlaps", "uncovered")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a row of the table is measured with; None in `settings` takes the default of the models.

    Attributes:
        clip: labels the pixels.
        segmenter: makes the proposals.
        select: DENSE, ORACLE, or a rule of selection.
        settings: everything else.
    """

    clip: Model
    segmenter: Model
    select: str
    settings: "ContrastiveSettings"

    def value(self, axis: str) -> Value:
        """Its value on an axis."""
        name = axis.replace("-", "_")
        if axis in ("clip", "segmenter", "select"):
            own: Value = getattr(self, name)
        else:
            own = getattr(self.settings.rules if axis in IN_RULES else self.settings, name)
        return own

    def at(self, axis: str, value: Value) -> "Setting":
        """The same setting at another place of an axis."""
        changed = {axis.replace("-", "_"): value}
        if axis in ("clip", "segmenter", "select"):
            return replace(self, **changed)  # type: ignore[arg-type]
        if axis in IN_RULES:
            rules = replace(self.settings.rules, **changed)  # type: ignore[arg-type]
            return replace(self, settings=replace(self.settings, rules=rules))
        return replace(self, settings=replace(self.settings, **changed))  # type: ignore[arg-type]


Place = tuple[tuple[str, Value], ...]
"""Axes with their values; empty for the base."""


class Step(NamedTuple):
    """One measurement.

    Attributes:
        place: what differs from the base.
        setting: the complete setting.
    """

    place: Place
    setting: Setting

    @property
    def is_oracle(self) -> bool:
        """Whether it is the upper bound of a selection."""
        return self.setting.select == ORACLE


def steps(
    base: Setting, values: Mapping[str, Sequence[Value]], grid: Mapping[str, Sequence[Value]]
) -> list[Step]:
    """The measurements in their order, each with its oracle where the proposals or their rules are new.

    Args:
        base: the setting around which axes are varied.
        values: of the axes that are varied one at a time.
        grid: of the axes whose products are measured.
    """
    places: dict[Place, None] = {(): None}
    for axis, own in values.items():
        places |= dict.fromkeys(((axis, value),) for value in own)
    if grid:
        places |= dict.fromkeys(
            tuple(zip(grid, combination, strict=True)) for combination in product(*grid.values())
        )
    result = [Step(place, _at(base, place)) for place in places]
    oracles = dict.fromkeys(map(of_proposals, places))
    return result + [Step(place, _at(base, place).at("select", ORACLE)) for place in oracles]


def of_proposals(place: Place) -> Place:
    """The part of a place that changes the proposals or how they become a map."""
    return tuple((axis, value) for axis, value in place if AXES[axis].proposals)


def _at(base: Setting, place: Place) -> Setting:
    for axis, value in place:
        base = base.at(axis, value)
    return base


def shown(value: Value) -> str:
    """A value in tables: numbers without zeros at the end, models by the last part of their name."""
    if isinstance(value, Model):
        name = value.name.rstrip("/").rsplit("/", 1)[-1]
        return name if value.checkpoint is None else f"{name} ({value.checkpoint.rsplit('/', 1)[-1]})"
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def title(place: Place) -> str:
    """A place in words, such as `threshold 0.3`."""
    return ", ".join(f"{axis} {shown(value)}" for axis, value in place) or "base"
