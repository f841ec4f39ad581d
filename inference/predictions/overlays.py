"""The overlay of a raster, of bounded size: the reduced image with the mask and the clicks, above the query."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from geoclick.clicks import Click
from geoclick.instances import Instance
from geoclick.pages import captions, click_drawing

LONGEST = 2048
"""Longest side of the image of an overlay in pixels; the band of the query below it is not counted."""

NUMBERED = 12
"""Clicks up to this number are drawn as in the overlay of an image; more are drawn small, with their signs."""


def draw(
    picture: np.ndarray,
    mask: np.ndarray,
    clicks: Sequence[Click],
    size: tuple[int, int],
    instances: Sequence[Instance] = (),
    query: str = "",
) -> np.ndarray:
    """The overlay of a raster, uint8 [h, w, 3]; parts have colors, and their clicks the numbers of the parts.

    The first h rows of `picture` are those of the overlay, so that it stays aligned with the raster; a query makes it
    higher.

    Args:
        picture: the reduced raster, uint8 [h, w, 3].
        mask: bool [h, w].
        clicks: in pixels of a raster of `size`; without those of `instances`.
        size: (height, width) of the raster.
        instances: the parts of the windows whose answers have several.
        query: on a band below the image; empty for none.
    """
    signs = [(click, "+" if click.positive else "-") for click in clicks]
    numbers = [(click, str(i)) for i, one in enumerate(instances, start=1) for click in one.clicks]
    rows, columns = picture.shape[0] / size[0], picture.shape[1] / size[1]
    moved = [
        (click._replace(x=(click.x + 0.5) * columns - 0.5, y=(click.y + 0.5) * rows - 0.5), label)
        for click, label in [*signs, *numbers]
    ]
    if len(clicks) <= NUMBERED and not instances:
        return click_drawing.overlay(picture, mask, [click for click, _ in moved], query=query)
    longest = max(picture.shape[:2])
    line = max(2, longest // 1000)
    tinted = click_drawing.tint(picture, mask, click_drawing.MASK_COLOR, line=line)
    tinted = click_drawing.tint_instances(picture, tinted, instances, size, line=line)
    drawn = Image.fromarray(tinted)
    pen = ImageDraw.Draw(drawn)
    radius = max(8 if instances else 5, longest // 250)
    for click, label in moved:
        click_drawing.draw_click(pen, click.x, click.y, label, positive=click.positive, radius=radius)
    return captions.below(np.asarray(drawn), query) if query else np.asarray(drawn)
