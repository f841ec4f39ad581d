"""Texts in pictures: shortened to a width, wrapped to lines, and on a band below a picture.

The font of Pillow has Latin letters only; it draws a box in place of any other.
"""

from bisect import bisect_right

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

LINES = 3
"""Lines of a caption at most."""

SMALLEST = 14
"""Size of the font in pixels; in pictures above 64 times that, a 64th of the longest side."""

PAPER, INK = (255, 255, 255), (20, 20, 20)


def below(picture: np.ndarray, text: str) -> np.ndarray:
    """A picture, uint8 [h, w, 3], with a text on a white band below it, at most LINES lines; a longer one is cut.

    The picture itself is unchanged and begins at the top left pixel, so that a place in it has the same pixel with and
    without the band.
    """
    height, width = picture.shape[:2]
    font = ImageFont.load_default(max(SMALLEST, max(height, width) // 64))
    return np.concatenate([picture, _band(width, font, text)])


def _band(width: int, font: Font, text: str) -> np.ndarray:
    """A text on white, uint8 [h, width, 3]."""
    left, top, _, bottom = font.getbbox("Ag")
    row, margin = round(1.3 * (bottom - top)), round((bottom - top) / 2)
    lines = wrap(text, font, width - 2 * margin, LINES)
    band = Image.new("RGB", (width, row * len(lines) + margin), PAPER)
    pen = ImageDraw.Draw(band)
    for number, line in enumerate(lines):
        pen.text((margin - left, margin / 2 + row * (number + 0.5)), line, fill=INK, font=font, anchor="lm")
    return np.asarray(band)


def wrap(text: str, font: Font, width: float, lines: int) -> list[str]:
    """A text in at most `lines` lines of `width` pixels, which begin with words; an ellipsis stands for what is cut."""
    words, found = text.split(), [""]
    for number, word in enumerate(words):
        longer = f"{found[-1]} {word}".strip()
        if not found[-1] or font.getlength(longer) <= width:
            found[-1] = longer
        elif len(found) < lines:
            found.append(word)
        else:
            found[-1] = " ".join([found[-1], *words[number:]])
            break
    return [shorten(line, font, width) for line in found]


def shorten(text: str, font: Font, width: float) -> str:
    """The text, with an ellipsis in place of its end where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    places = range(len(text) + 1)
    fitting = bisect_right(places, width, key=lambda end: font.getlength(text[:end] + "..."))
    return text[: max(0, fitting - 1)].rstrip() + "..."
