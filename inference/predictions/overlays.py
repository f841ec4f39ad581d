"""The overlay of a raster, of bounded size: the reduced image with the mask and the clicks."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from geoclick.clicks import Click
from geoclick.pages import click_drawing

LONGEST = 2048
"""Longest side of an overlay in pixels."""

NUMBERED = 12
"""Clicks up to this number are drawn as in the overlay of an image; more are drawn small, with their signs."""


def draw(picture: np.ndarray, mask: np.ndarray, clicks: Sequence[Click], size: tuple[int, int]) -> np.ndarray:
    """The overlay of a raster, uint8 [h, w, 3].

    Args:
        picture: the reduced raster, uint8 [h, w, 3].
        mask: bool [h, w].
        clicks: in pixels of a raster of `size`.
        size: (height, width) of the raster.
    """
    rows, columns = picture.shape[0] / size[0], picture.shape[1] / size[1]
    moved = [
        click._replace(x=(click.x + 0.5) * columns - 0.5, y=(click.y + 0.5) * rows - 0.5) for click in clicks
    ]
    if len(clicks) <= NUMBERED:
        return click_drawing.overlay(picture, mask, moved)
    longest = max(picture.shape[:2])
    line = max(2, longest // 1000)
    drawn = Image.fromarray(click_drawing.tint(picture, mask, click_drawing.MASK_COLOR, line=line))
    pen = ImageDraw.Draw(drawn)
    radius = max(5, longest // 250)
    for click in moved:
        sign = "+" if click.positive else "-"
        click_drawing.draw_click(pen, click.x, click.y, sign, positive=click.positive, radius=radius)
    return np.asarray(drawn)
