"""How targets of several components become parts; the parts themselves are in parts.py."""

from dataclasses import dataclass
from typing import Literal

MAX_PARTS = 16
"""Largest number of parts of an answer; the smaller ones are left out."""

DISTANCE, AREA = 2.0, 16
"""Defaults of PartRules."""

Mode = Literal["one", "components", "auto"]
"""Targets are clicked on by one prompt, by one for each part, or by the better of both, see `choose`."""


@dataclass(frozen=True)
class PartRules:
    """How targets become parts.

    Attributes:
        mode: see Mode.
        distance: components are one part if their surroundings of half this many pixels touch.
        area: parts of fewer pixels are left out, unless all are.
    """

    mode: Mode = "one"
    distance: float = DISTANCE
    area: int = AREA

    @property
    def name(self) -> str:
        """The rules for records, such as `+parts-auto`, with numbers that differ from their defaults."""
        if self.mode == "one":
            return ""
        distance = f"+part-distance-{self.distance:g}" if self.distance != DISTANCE else ""
        return f"+parts-{self.mode}{distance}" + (f"+part-area-{self.area}" if self.area != AREA else "")
