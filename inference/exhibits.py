"""Pictures of records for a page: the image from the dataset's root, or a grey ground where it cannot be shown."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from geoclick import images, masks
from geoclick.clicks import Click
from geoclick.datasets.reading import inside
from geoclick.errors import GeoClickError
from inference import draw, page

PICTURE = 360
"""Longest side of a picture in pixels; as JPEG some 20 kB each."""
GREY = 200
TEXT = 400
"""Characters of a model's text that are shown."""


def image_of(record: Mapping[str, Any], root: Path) -> tuple[np.ndarray, str]:
    """The image of a record, uint8 [H, W, 3], and why it is but grey, which is empty where it is not."""
    size = tuple(record["size"])
    try:
        return images.read_image(inside(root, record["image"]), size=size), ""
    except (GeoClickError, OSError) as error:
        return np.full((*size, 3), GREY, np.uint8), str(error)


def picture(
    image: np.ndarray,
    rle: Mapping[str, Any] | None,
    clicks: Sequence[Sequence] = (),
    *,
    label: str,
    colour: tuple[int, int, int] = draw.MASK_COLOUR,
) -> str:
    """The image with a mask and clicks as HTML, a label in its corner.

    Args:
        image: uint8 [H, W, 3].
        rle: of the mask, None for none.
        clicks: (x, y, positive) each, in pixels of the image.
        label: plain text, also the alternative text.
        colour: of the mask.
    """
    mask = np.zeros(image.shape[:2], bool) if rle is None else masks.decode_rle(rle)
    panel = draw.panel(image, mask, [Click(*click) for click in clicks], longest=PICTURE, colour=colour)
    source = draw.data_uri(panel, quality=70)
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
    return page.section(heading, f'<div class="gallery">{"".join(figures)}</div>' if figures else "")


def key(more: str) -> str:
    """What the colours of pictures mean, and more words, which are HTML already."""
    return (
        f'<p class="key">{page.dot(draw.TARGET_COLOUR)}target, {page.dot(draw.MASK_COLOUR)}predicted mask, '
        f"{page.dot(draw.POSITIVE)}positive and {page.dot(draw.NEGATIVE)}negative clicks in their order. {more}</p>"
    )
