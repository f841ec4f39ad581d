"""Records as figures of a page: the image with the target, and with the predicted mask and the clicks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from geoclick import masks
from geoclick.clicks import Click, ClickSequence
from geoclick.errors import GeoClickError
from geoclick.geo.reading import DEFAULT, PixelOptions, read_recorded
from geoclick.instances import Instance, of_mask
from geoclick.pages import click_drawing
from geoclick.pages.click_drawing import Window
from geoclick.pages.figures import Picture, data_uri
from geoclick.scoring.records import Record, RecordPart

PICTURE_SIZE = 360
"""Longest side of a picture in pixels; as JPEG some 20 kB each."""
GREY = 200
MAX_TEXT = 400
"""Characters of a model's text that are shown."""


def read_image(record: Record, root: Path, pixels: PixelOptions = DEFAULT) -> tuple[np.ndarray, str]:
    """The image of a record, resized to PICTURE_SIZE; grey, with the reason, if it cannot be read.

    Returns:
        The image, uint8 [h, w, 3], and the error message, empty where there is none.
    """
    image, error = read_complete(record, root, pixels)
    return resized(image), error


def read_complete(record: Record, root: Path, pixels: PixelOptions = DEFAULT) -> tuple[np.ndarray, str]:
    """As `read_image`, at the size of the image, uint8 [H, W, 3]."""
    height, width = record["size"]
    try:
        return read_recorded(root, record["image"], (height, width), pixels), ""
    except (GeoClickError, OSError) as error:
        return np.full((height, width, 3), GREY, np.uint8), str(error)


def resized(image: np.ndarray) -> np.ndarray:
    """An image, uint8 [H, W, 3], with a longest side of PICTURE_SIZE."""
    height, width = click_drawing.fitted_size((image.shape[0], image.shape[1]), PICTURE_SIZE)
    size = width, height
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=2))


def window_of(records: Sequence[Record]) -> Window | None:
    """The window of the image that holds target, masks and clicks of records of one sample.

    None where the complete image is hardly larger, and for answers of several parts, whose colors a window lacks.
    """
    if any(record.get("parts") for record in records):
        return None
    shown = masks.decode_rle(records[0]["target"])
    for record in records:
        shown |= masks.decode_rle(record["mask"])
    clicks = [Click(*click) for record in records for click in record["clicks"]]
    return click_drawing.zoom_window(shown, clicks)


def target_picture(image: np.ndarray, record: Record, window: Window | None) -> Picture:
    """The complete image, uint8 [H, W, 3], with the target, and the frame of a window where there is one."""
    target = masks.decode_rle(record["target"])
    drawn = click_drawing.panel(
        resized(image), target, longest=PICTURE_SIZE, color=click_drawing.TARGET_COLOR
    )
    if window:
        drawn = click_drawing.draw_frame(drawn, window, (image.shape[0], image.shape[1]))
    return Picture(data_uri(drawn, quality=70), "target")


def answer_picture(image: np.ndarray, record: Record, window: Window | None, *, label: str) -> Picture:
    """The predicted mask and the clicks: in a window with the outline of the target, or on the complete image.

    Args:
        image: uint8 [H, W, 3].
        record: of the image.
        window: from `window_of`.
        label: of the picture.
    """
    if window is None:
        return picture(resized(image), record, "mask", label=label)
    drawn = click_drawing.window_panel(
        image,
        masks.decode_rle(record["target"]),
        masks.decode_rle(record["mask"]),
        [Click(*click) for click in record["clicks"]],
        window,
        side=PICTURE_SIZE,
    )
    return Picture(data_uri(drawn, quality=70), label)


def picture(
    image: np.ndarray, record: Record, shows: Literal["image", "target", "mask"], *, label: str
) -> Picture:
    """The image with a mask of a record.

    Args:
        image: from `read_image`.
        record: of the image.
        shows: the image alone, the target, or the predicted mask with the clicks.
        label: of the picture.
    """
    if shows == "image":
        return Picture(data_uri(image, quality=70), label)
    scale = image.shape[0] / record["size"][0]
    clicks = _scaled(record["clicks"] if shows == "mask" else [], scale)
    color = click_drawing.MASK_COLOR if shows == "mask" else click_drawing.TARGET_COLOR
    mask = masks.decode_rle(record[shows])
    parts = record.get("parts", []) if shows == "mask" else []
    instances = [_instance(part, (image.shape[0], image.shape[1]), scale) for part in parts]
    drawn = click_drawing.panel(image, mask, clicks, longest=PICTURE_SIZE, color=color, instances=instances)
    return Picture(data_uri(drawn, quality=70), label)


def _scaled(clicks: list[tuple[float, float, bool]], scale: float) -> ClickSequence:
    """The clicks of a record in a resized image; a click is on a pixel's center."""
    return tuple(
        Click((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5, positive) for x, y, positive in clicks
    )


def _instance(part: RecordPart, size: tuple[int, int], scale: float) -> Instance:
    """A part of a record in an image that is resized to `size` (height, width)."""
    mask = Image.fromarray(masks.decode_rle(part["mask"]))
    resized = np.asarray(mask.resize((size[1], size[0]), Image.Resampling.NEAREST))
    return of_mask(_scaled(part["clicks"], scale), resized)


def answer(text: str, author: str = "") -> list[tuple[str, str]]:
    """What a model wrote, at most MAX_TEXT characters, as the answers of a figure; empty where it wrote nothing."""
    if not text:
        return []
    return [(author, text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ...")]


def details(record: Record, *more: str) -> str:
    """Identifier, category and task of a record and `more`, in one line, without what repeats the query."""
    parts = (record["sample_id"], record["category"], record["task"], *more)
    return " · ".join(part for part in parts if part not in ("", record["query"]))
