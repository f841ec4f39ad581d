"""Pictures of records for a page: the image from the dataset's root, or a grey ground where it cannot be shown."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from geoclick import images, masks
from geoclick.clicks import Click
from geoclick.datasets.reading import inside
from geoclick.errors import GeoClickError
from geoclick.pages import click_drawing, layout

PICTURE = 360
"""Longest side of a picture in pixels; as JPEG some 20 kB each."""
GREY = 200
TEXT = 400
"""Characters of a model's text that are shown."""


def image_of(record: Mapping[str, Any], root: Path) -> tuple[np.ndarray, str]:
    """The image of a record at a picture's size, uint8 [h, w, 3], and why it is but grey; empty where it is not."""
    size = tuple(record["size"])
    height, width = click_drawing.fitted_size(size, PICTURE)
    try:
        image = Image.fromarray(images.read_image(inside(root, record["image"]), size=size))
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2)), ""
    except (GeoClickError, OSError) as error:
        return np.full((height, width, 3), GREY, np.uint8), str(error)


def picture(
    image: np.ndarray,
    record: Mapping[str, Any],
    mask: str,
    *,
    label: str,
    color: tuple[int, int, int] = click_drawing.MASK_COLOR,
) -> str:
    """The image with a mask of a record as HTML, a label in its corner; the clicks stand on the predicted mask.

    Args:
        image: of `image_of`.
        record: a line of predictions.jsonl.
        mask: `target`, `mask`, or empty for the image alone.
        label: plain text, also the alternative text.
        color: of the mask.
    """
    scale = image.shape[0] / record["size"][0]
    # A click is on a pixel's center.
    clicks = [
        Click((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5, positive)
        for x, y, positive in (record["clicks"] if mask == "mask" else ())
    ]
    pixels = masks.decode_rle(record[mask]) if mask else np.zeros(image.shape[:2], bool)
    panel = click_drawing.panel(image, pixels, clicks, longest=PICTURE, color=color)
    source = click_drawing.data_uri(panel, quality=70)
    return f'<div><img src="{source}" alt="{escape(label)}" loading="lazy"><span>{escape(label)}</span></div>'


def text(said: str, who: str = "") -> str:
    """What a model wrote, cut to TEXT characters; who wrote it stands before it."""
    if not said:
        return ""
    shown = said if len(said) <= TEXT else said[:TEXT] + " ..."
    return f"<code>{f'<b>{escape(who)}</b> ' if who else ''}{escape(shown)}</code>"


def figure(pictures: Sequence[str], caption: str, missing: str = "") -> str:
    """Pictures two a row with a caption, which is HTML already, and why the image is missing."""
    note = f"<small>{escape(missing)}</small>" if missing else ""
    return f'<figure><div class="pair">{"".join(pictures)}</div><figcaption>{caption}{note}</figcaption></figure>'


def gallery(heading: str, figures: Sequence[str]) -> str:
    """Figures under a heading; nothing where there are none."""
    return layout.section(heading, f'<div class="gallery">{"".join(figures)}</div>' if figures else "")


def key(more: str) -> str:
    """What the colors of pictures mean, and more words, which are HTML already."""
    target, mask = layout.dot(click_drawing.TARGET_COLOR), layout.dot(click_drawing.MASK_COLOR)
    positive, negative = layout.dot(click_drawing.POSITIVE), layout.dot(click_drawing.NEGATIVE)
    return (
        f'<p class="key">{target}target, {mask}predicted mask, {positive}positive and {negative}negative clicks '
        f"in their order. {more}</p>"
    )
