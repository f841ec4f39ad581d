"""Masks of several objects: connected components, where those that are near to each other are one part."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MAX_PARTS = 16
"""Largest number of parts of an answer; the smaller ones are left out."""

DISTANCE, AREA = 2.0, 16
"""Defaults of `cut`."""


@dataclass(frozen=True)
class Cut:
    """A target in parts.

    Attributes:
        parts: bool [H, W] each, the largest first.
        joined: number of components that are joined to others.
        small: number of parts that are left out since they are small.
        beyond: number of parts that are left out since there are too many.
    """

    parts: "list[np.ndarray]"
    joined: int = 0
    small: int = 0
    beyond: int = 0

    @property
    def is_smaller(self) -> bool:
        """Whether no part is the whole target."""
        return len(self.parts) > 1 or self.small > 0


def cut(
    target: "np.ndarray", *, distance: float = DISTANCE, area: int = AREA, most: int | None = MAX_PARTS
) -> Cut:
    """The parts of a mask; components are 8-connected.

    Args:
        target: bool [H, W], with at least one pixel.
        distance: components are one part if their surroundings of half this many pixels touch.
        area: parts of fewer pixels are left out, unless all are.
        most: largest number of parts; None for all.
    """
    import numpy as np
    from scipy import ndimage

    from geoclick.masks import bounding_box

    neighbors = np.ones((3, 3), bool)
    rows, columns = (_grown(side, distance) for side in bounding_box(target) or ())
    box = target[rows, columns]
    components = ndimage.label(box, neighbors)[1]
    if components == 1:
        return Cut([target])
    near = ndimage.distance_transform_edt(~box) <= distance / 2
    labels = np.zeros(target.shape, np.int32)
    labels[rows, columns], count = ndimage.label(near, neighbors)
    areas = np.bincount(labels[target], minlength=count + 1)[1:]
    order = sorted(range(count), key=lambda i: (-areas[i], i))
    large = [i for i in order if areas[i] >= area] or order[:1]
    parts = [target & (labels == i + 1) for i in large[:most]]
    return Cut(parts, components - count, count - len(large), len(large) - len(parts))


def _grown(side: slice, distance: float) -> slice:
    """A side of a box with some pixels more on both ends."""
    return slice(max(0, side.start - math.ceil(distance)), side.stop + math.ceil(distance))
