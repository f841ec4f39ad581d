"""Clicks, the data structure that all packages share."""

from typing import NamedTuple


class Click(NamedTuple):
    """A point with a sign, in pixels of the original image.

    `x` is the column and `y` the row, with the origin at the top left pixel; an integer is the center of a pixel.
    """

    x: float
    y: float
    positive: bool = True


ClickSequence = tuple[Click, ...]
"""Clicks in order; an empty sequence means that the query has no target."""

Box = tuple[float, float, float, float]
"""(left, top, right, bottom), the outermost pixels inside it, in pixels of the original image."""

ANSWER_ENDS = ("best", "last")
"""Where an answer to train on ends: at the click after which the IoU is highest (the first of equal ones), or at the
last one."""
