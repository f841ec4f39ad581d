"""Records as figures of a page: the image with the target, and with the predicted mask and the clicks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from geoclick.errors import GeoClickError
from geoclick.geo.reading import DEFAULT, PixelOptions, read_recorded
from geoclick.pages import click_drawing, record_drawing
from geoclick.pages.click_drawing import Window
from geoclick.pages.figures import Picture, data_uri
from geoclick.scoring.records import Record

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
    several = any(record.get("parts") for record in records)
    return None if several else record_drawing.window_of(records)


def target_picture(image: np.ndarray, record: Record, window: Window | None) -> Picture:
    """The complete image, uint8 [H, W, 3], with the target, and the frame of a window where there is one."""
    return picture(record_drawing.target(resized(image), record, window, side=PICTURE_SIZE), "target")


def answer_picture(image: np.ndarray, record: Record, window: Window | None, *, label: str) -> Picture:
    """The predicted mask and the clicks: in a window with the outline of the target, or on the complete image.

    Args:
        image: uint8 [H, W, 3].
        record: of the image.
        window: from `window_of`.
        label: of the picture.
    """
    if window is None:
        return picture(record_drawing.complete_answer(resized(image), record, side=PICTURE_SIZE), label)
    return picture(record_drawing.answer(image, record, window, side=PICTURE_SIZE), label)


def picture(drawn: np.ndarray, label: str) -> Picture:
    """A drawing, uint8 [h, w, 3], as a picture of a page."""
    return Picture(data_uri(drawn, quality=70), label)


def answer(text: str, author: str = "") -> list[tuple[str, str]]:
    """What a model wrote, at most MAX_TEXT characters, as the answers of a figure; empty where it wrote nothing."""
    if not text:
        return []
    return [(author, text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ...")]


def details(record: Record, *more: str) -> str:
    """Identifier, category and task of a record and `more`, in one line, without what repeats the query."""
    parts = (record["sample_id"], record["category"], record["task"], *more)
    return " · ".join(part for part in parts if part not in ("", record["query"]))
