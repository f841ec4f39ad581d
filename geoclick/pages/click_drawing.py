"""Drawings of clicks and masks on images: panels of a complete image, panels of a window of it, lines of text."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from geoclick.clicks import Box, Click
from geoclick.instances import Instance, by_area
from geoclick.pages import captions

Color = tuple[int, int, int]

# Any two of the colors of masks, targets, clicks and parts are at least 0.17 apart in OKLab, and at least 0.12 from
# nearly every pixel of overhead images, see tests/geoclick/pages/test_colors.py.
MASK_COLOR: Color = (240, 60, 205)
TARGET_COLOR: Color = (0, 190, 255)
POSITIVE: Color = (22, 163, 74)
NEGATIVE: Color = (220, 38, 38)
COLORS = {"mask": MASK_COLOR, "target": TARGET_COLOR, "positive": POSITIVE, "negative": NEGATIVE}
"""For the legends of pages."""
PART_COLORS: tuple[Color, ...] = (
    (255, 195, 0),
    (60, 90, 255),
    (255, 165, 240),
    (135, 255, 15),
    (165, 0, 255),
    (255, 135, 105),
    (15, 255, 225),
    (165, 135, 255),
)
"""Of the parts of an answer, in turn; none is that of a target, of an answer of one part, or of a click."""
WHITE: Color = (255, 255, 255)
BLACK: Color = (20, 20, 20)
OUTSIDE: Color = (238, 240, 242)
"""Shown by a window where it is beyond the border of the image."""
TINT = 0.4
LARGEST_WINDOW = 0.75
"""Side of the largest window that `zoom_window` shows, as a share of the longer side of the image."""
SUPERSAMPLING = 2
"""Windows are drawn this many times larger and then reduced, for smooth edges."""


def fitted_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(height, width) of an image scaled so that its longest side is `longest`."""
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def marker_radius(longest: int) -> int:
    """Radius of a click in a panel whose longest side is `longest`, both in pixels."""
    return max(6, longest // 40)


def draw_click(
    pen: ImageDraw.ImageDraw, x: float, y: float, label: str, *, positive: bool, radius: int
) -> None:
    """Draw a click: a labeled disc, green where positive and red where negative.

    Args:
        pen: draws on the picture.
        x: column of the center, in pixels of the picture.
        y: row of the center.
        label: the click's number, or its sign.
        positive: whether the click is positive.
        radius: of the disc in pixels.
    """
    box = (x - radius, y - radius, x + radius, y + radius)
    pen.ellipse(box, fill=POSITIVE if positive else NEGATIVE, outline=WHITE, width=max(1, radius // 5))
    font = ImageFont.load_default(size=round((1.3 if len(label) == 1 else 1.05) * radius))
    pen.text((x, y), label, fill=WHITE, font=font, anchor="mm")


def tint(image: np.ndarray, mask: np.ndarray, color: Color, *, line: int) -> np.ndarray:
    """The image, uint8 [H, W, 3], with `mask` (bool [H, W]) tinted and an inner outline `line` pixels wide."""
    picture = image.astype(np.float32)
    picture[mask] = (1 - TINT) * picture[mask] + TINT * np.array(color, np.float32)
    picture[inner_edge(mask, line)] = color
    return picture.round().astype(np.uint8)


def inner_edge(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask, bool [H, W], at most `width` pixels from its border."""
    return mask & ~ndimage.binary_erosion(mask, iterations=width) if mask.any() else mask


def panel(
    image: np.ndarray,
    mask: np.ndarray,
    clicks: Sequence[Click] = (),
    *,
    longest: int,
    color: Color = MASK_COLOR,
    boxes: Sequence[Box] = (),
    instances: Sequence[Instance] = (),
) -> np.ndarray:
    """The image with a mask, boxes and clicks drawn on it, uint8 [h, w, 3], its longest side `longest` pixels.

    Clicks are numbered in their order. With instances, each is tinted and outlined in its color, the smallest on top,
    and the clicks have the number of their instance in place of their own; one without clicks has it in its corner.

    Args:
        image: uint8 [H, W, 3] RGB.
        mask: bool [H, W], tinted and outlined.
        clicks: in pixels of the image, in their order; with instances, theirs are drawn.
        longest: longest side of the panel, larger or smaller than the image's.
        color: of the mask.
        boxes: in pixels of the image.
        instances: of an answer of several parts, in their order.
    """
    size = (image.shape[0], image.shape[1])
    height, width = fitted_size(size, longest)
    sized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    sized_mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    line = max(2, longest // 200)
    pixels = tint(sized, sized_mask, color, line=line)
    picture = Image.fromarray(tint_instances(sized, pixels, instances, size, line=line))
    scale = width / image.shape[1], height / image.shape[0]
    pen = ImageDraw.Draw(picture)
    for left, top, right, bottom in boxes:
        # From the outer edges of the outermost pixels.
        corners = (left * scale[0], top * scale[1], (right + 1) * scale[0] - 1, (bottom + 1) * scale[1] - 1)
        pen.rectangle(corners, outline=POSITIVE, width=line)
    radius = marker_radius(longest)
    if instances:
        # Smaller, since objects of a kind are often small.
        _draw_numbered(picture, instances, scale, max(6, longest // 56))
    else:
        _draw_clicks(picture, clicks, (0, 0), scale, radius)
    return np.asarray(picture)


def tint_instances(
    image: np.ndarray, below: np.ndarray, instances: Sequence[Instance], size: tuple[int, int], *, line: int
) -> np.ndarray:
    """A picture, uint8 [h, w, 3], with each instance tinted and outlined in its color, the smallest on top.

    Args:
        image: the picture of an image of `size`.
        below: what is shown where there is no instance, likewise.
        instances: of that image.
        size: (height, width) of the image.
        line: width of the outlines in pixels of the picture.
    """
    picture = below
    for number in reversed(by_area(instances)):
        mask = instances[number].resized(size, (image.shape[0], image.shape[1]))
        # Without the color of those below it.
        picture = np.where(mask[..., None], image, picture)
        picture = tint(picture, mask, PART_COLORS[number % len(PART_COLORS)], line=line)
    return picture


def _draw_numbered(
    picture: Image.Image, instances: Sequence[Instance], scale: tuple[float, float], radius: int
) -> None:
    """Draw the clicks of instances with the number of their instance; `scale` is that of (x, y)."""
    pen = ImageDraw.Draw(picture)
    for number, one in enumerate(instances, start=1):
        for click in one.clicks:
            x, y = (
                (value + 0.5) * factor - 0.5 for value, factor in zip((click.x, click.y), scale, strict=True)
            )
            draw_click(pen, x, y, str(number), positive=click.positive, radius=radius)
        if not one.clicks and one.box:
            color, font = (
                PART_COLORS[(number - 1) % len(PART_COLORS)],
                ImageFont.load_default(size=radius + 6),
            )
            place = (one.box[0] * scale[0] + radius / 2, one.box[1] * scale[1] + radius / 2)
            pen.text(place, str(number), fill=color, font=font, stroke_width=2, stroke_fill=BLACK)


def _draw_clicks(
    picture: Image.Image,
    clicks: Sequence[Click],
    origin: tuple[int, int],
    scale: tuple[float, float],
    radius: int,
) -> None:
    """Draw clicks with their numbers; `origin` is the picture's corner in the image, both pairs are (x, y)."""
    pen = ImageDraw.Draw(picture)
    for number, click in enumerate(clicks, start=1):
        # A click is on a pixel's center.
        x, y = (
            (value + 0.5 - start) * factor - 0.5
            for value, start, factor in zip((click.x, click.y), origin, scale, strict=True)
        )
        draw_click(pen, x, y, str(number), positive=click.positive, radius=radius)


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    clicks: Sequence[Click],
    boxes: Sequence[Box] = (),
    instances: Sequence[Instance] = (),
    *,
    query: str = "",
) -> np.ndarray:
    """`panel` at the image's own size, or enlarged to 512 pixels where the numbers would be illegible.

    A query stands on a band below the image, see captions.py.
    """
    longest = max(512, *image.shape[:2])
    drawn = panel(image, mask, clicks, longest=longest, boxes=boxes, instances=instances)
    return captions.below(drawn, query) if query else drawn


class Window(NamedTuple):
    """A square part of an image, in pixels of the image; it may extend beyond the image's border."""

    left: int
    top: int
    side: int


def window_around(target: np.ndarray, clicks: Sequence[Click]) -> Window:
    """A window around a target, bool [H, W], and clicks, beyond the image's border only where they need it."""
    ys, xs = np.nonzero(target)
    xs = np.append(xs, [click.x for click in clicks])
    ys = np.append(ys, [click.y for click in clicks])
    extent = max(np.ptp(xs), np.ptp(ys)) + 1
    side = int(min(max(extent * 1.5, 96), max(target.shape) * 1.02))
    side = max(side, int(extent) + 8)
    height, width = target.shape
    return Window(_start(xs, side, width), _start(ys, side, height), side)


def zoom_window(shown: np.ndarray, clicks: Sequence[Click]) -> Window | None:
    """The window around all that is shown, bool [H, W], and clicks; None where the complete image is hardly larger."""
    if not shown.any() and not clicks:
        return None
    window = window_around(shown, clicks)
    return window if window.side <= LARGEST_WINDOW * max(shown.shape) else None


def draw_frame(drawn: np.ndarray, window: Window, size: tuple[int, int]) -> np.ndarray:
    """A picture of a complete image of `size` (height, width), uint8 [h, w, 3], with the frame of a window."""
    picture, scale = Image.fromarray(drawn), drawn.shape[1] / size[1]
    left, top = window.left * scale, window.top * scale
    right, bottom = left + window.side * scale - 1, top + window.side * scale - 1
    pen = ImageDraw.Draw(picture)
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=BLACK)
    pen.rectangle((left, top, right, bottom), outline=WHITE, width=2)
    return np.asarray(picture)


def _start(values: np.ndarray, side: int, length: int) -> int:
    """Where a window of `side` around `values` starts, moved into the image where it fits."""
    if side >= length:
        return (length - side) // 2
    return int(min(max((values.min() + values.max() - side) // 2, 0), length - side))


def window_panel(
    image: np.ndarray,
    target: np.ndarray,
    prediction: np.ndarray | None,
    clicks: Sequence[Click],
    window: Window,
    *,
    side: int,
) -> np.ndarray:
    """A window of the image with the target's outline, the predicted mask and clicks, uint8 [side, side, 3].

    Args:
        image: uint8 [H, W, 3] RGB.
        target: bool [H, W], outlined.
        prediction: bool [H, W], tinted and outlined; None for none.
        clicks: in pixels of the image, numbered in this order.
        window: the part that is shown.
        side: of the panel in pixels.
    """
    large = side * SUPERSAMPLING
    pixels = _crop_image(image, window, large)
    if prediction is not None:
        pixels = tint(pixels, _crop_mask(prediction, window, large), MASK_COLOR, line=5)
    cropped = _crop_mask(target, window, large)
    pixels[ndimage.binary_dilation(cropped) & ~cropped] = BLACK
    pixels[inner_edge(cropped, 4)] = TARGET_COLOR
    picture, scale = Image.fromarray(pixels), large / window.side
    radius = SUPERSAMPLING * max(8, side // 29)
    _draw_clicks(picture, clicks, (window.left, window.top), (scale, scale), radius)
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS))


def _crop_image(image: np.ndarray, window: Window, size: int) -> np.ndarray:
    """The window of an image, uint8 [H, W, 3], resized to a square of `size`."""
    left, top, side = window
    box = (left, top, left + side, top + side)
    inside = Image.new("L", (image.shape[1], image.shape[0]), 255).crop(box)
    square = Image.new("RGB", (side, side), OUTSIDE)
    square.paste(Image.fromarray(image).crop(box), (0, 0), inside)
    return np.array(square.resize((size, size), Image.Resampling.BICUBIC))


def _crop_mask(mask: np.ndarray, window: Window, size: int) -> np.ndarray:
    """The window of a mask, bool [H, W], resized to a square of `size`; False beyond the border."""
    left, top, side = window
    cropped = Image.fromarray(mask.astype(np.uint8) * 255).crop((left, top, left + side, top + side))
    return np.asarray(cropped.resize((size, size), Image.Resampling.BILINEAR)) > 127


class Text(NamedTuple):
    """A piece of text in a drawing; `size` is the font's in pixels."""

    content: str
    color: Color
    size: int


def draw_line(picture: Image.Image, place: tuple[int, int], pieces: Sequence[Text], width: int) -> None:
    """Draw pieces of text in one line, the last one shortened where the line is full.

    Args:
        picture: drawn on.
        place: (x, y) of the line's top left corner in pixels.
        pieces: from left to right, on one baseline.
        width: of the line in pixels.
    """
    pen, (x, y) = ImageDraw.Draw(picture), place
    end, baseline = x + width, y + 15
    for content, color, size in pieces:
        font = ImageFont.load_default(size)
        shown = captions.shorten(content, font, end - x)
        pen.text((x, baseline), shown, fill=color, font=font, anchor="ls")
        x += round(font.getlength(shown)) + 12
