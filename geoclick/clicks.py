"""Clicks: the one word that every room of the house shares."""

from typing import NamedTuple


class Click(NamedTuple):
    """A point with a sign, in pixels of the original image.

    `x` is the column and `y` the row, origin at the top left pixel, a whole number meaning that pixel's
    center.
    """

    x: float
    y: float
    positive: bool = True


ClickSequence = tuple[Click, ...]
"""Clicks in the order in which they are made; an empty sequence means that the query has no target."""
