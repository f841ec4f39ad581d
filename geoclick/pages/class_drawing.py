"""Maps of classes: an index mask with a palette, and a colored overlay with a legend."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from geoclick import files
from geoclick.geo.writing import NO_DATA
from geoclick.pages.captions import shorten
from geoclick.pages.click_drawing import Color, fitted_size

TINT = 0.5
FONT, ROW, MARGIN, GAP = 14, 24, 10, 18
"""Pixels of the legend: font, height of a row, border, and space between entries."""

PAPER, INK, UNKNOWN = (255, 255, 255), (20, 20, 20), (160, 160, 160)


def write_index_mask(path: Path, labels: np.ndarray, colors: Sequence[Color]) -> None:
    """Write the numbers of classes, int [H, W] below 256, as a PNG with the colors of the classes as its palette.

    Pixels of NO_DATA are transparent.
    """
    files.refuse_link(path)
    image = Image.fromarray(labels.astype(np.uint8))
    if (labels == NO_DATA).any():
        image.putpalette(_table(colors).ravel().tolist())
        image.save(path, format="PNG", transparency=NO_DATA)
    else:
        image.putpalette([value for color in colors for value in color])
        image.save(path, format="PNG")


def _table(colors: Sequence[Color]) -> np.ndarray:
    """The colors of all numbers below 256, uint8 [256, 3]; UNKNOWN where there is no class, as for NO_DATA."""
    table = np.full((256, 3), UNKNOWN, np.uint8)
    table[: len(colors)] = colors
    return table


def overlay(
    image: np.ndarray, labels: np.ndarray, colors: Sequence[Color], entries: Sequence[tuple[str, int]]
) -> np.ndarray:
    """The image tinted by its classes, above a legend; enlarged to 512 pixels where it is smaller.

    Args:
        image: uint8 [H, W, 3] RGB.
        labels: the class of each pixel, int [H, W]; NO_DATA has the color UNKNOWN.
        colors: of all classes.
        entries: text and class of each entry of the legend.

    Returns:
        uint8 [h, w, 3].
    """
    height, width = fitted_size((image.shape[0], image.shape[1]), max(512, *image.shape[:2]))
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    table = _table(colors)
    colored = Image.fromarray(table[labels])
    tinted = Image.blend(picture, colored.resize((width, height), Image.Resampling.NEAREST), TINT)
    legend = _legend(width, [(r, g, b) for r, g, b in table.tolist()], entries)
    result = Image.new("RGB", (width, height + legend.height), PAPER)
    result.paste(tinted, (0, 0))
    result.paste(legend, (0, height))
    return np.asarray(result)


def _legend(width: int, colors: Sequence[Color], entries: Sequence[tuple[str, int]]) -> Image.Image:
    """The colors and texts of classes, in rows of the given width."""
    font = ImageFont.load_default(FONT)
    swatch = ROW - 10
    widest = max(1, width - 2 * MARGIN - swatch - 6)
    places = []
    x, y = MARGIN, MARGIN
    for text, number in entries:
        shown = shorten(text, font, widest)
        needed = swatch + 6 + round(font.getlength(shown))
        if x > MARGIN and x + needed > width - MARGIN:
            x, y = MARGIN, y + ROW
        places.append((x, y, shown, colors[number]))
        x += needed + GAP
    picture = Image.new("RGB", (width, y + ROW + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)
    for x, y, shown, color in places:
        pen.rectangle((x, y + 5, x + swatch, y + 5 + swatch), fill=color, outline=INK)
        pen.text((x + swatch + 6, y + ROW / 2), shown, fill=INK, font=font, anchor="lm")
    return picture
