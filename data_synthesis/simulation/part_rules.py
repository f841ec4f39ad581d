"""How targets of several components become parts, which geoclick/components.py cuts."""

from dataclasses import dataclass
from typing import Literal

from geoclick.components import AREA, DISTANCE

Order = Literal["left-to-right", "size"]
"""Parts in the answer by the x of their first click (ties by y), or the largest first."""
DEFAULT_ORDER: Order = "left-to-right"
"""Vision-language models learn an order in space more easily than one by size."""

Mode = Literal["one", "components", "auto"]
"""Targets are clicked on by one prompt, by one for each part, or by the better of both, see `choose`."""


@dataclass(frozen=True)
class PartRules:
    """How targets become parts.

    Attributes:
        mode: see Mode.
        distance: components are one part if their surroundings of half this many pixels touch.
        area: parts of fewer pixels are left out, unless all are.
        order: of the parts in the answer.
    """

    mode: Mode = "one"
    distance: float = DISTANCE
    area: int = AREA
    order: Order = DEFAULT_ORDER

    @property
    def name(self) -> str:
        """The rules for records, such as `+parts-auto`, with numbers that differ from their defaults."""
        if self.mode == "one":
            return ""
        distance = f"+part-distance-{self.distance:g}" if self.distance != DISTANCE else ""
        area = f"+part-area-{self.area}" if self.area != AREA else ""
        order = f"+part-order-{self.order}" if self.order != DEFAULT_ORDER else ""
        return f"+parts-{self.mode}{distance}{area}{order}"
