"""Drawings of a record of an evaluation: its target and its answer, on the complete image or in a window of it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from geoclick import masks
from geoclick.clicks import Click, ClickSequence
from geoclick.instances import Instance, of_mask
from geoclick.pages import click_drawing
from geoclick.pages.click_drawing import Window
from geoclick.scoring.records import Record, RecordPart


def window_of(records: Sequence[Record]) -> Window | None:
    """The window of the image that holds target, masks and clicks of records of one sample.

    None where the complete image is hardly larger.
    """
    shown = masks.decode_rle(records[0]["target"])
    for record in records:
        shown |= masks.decode_rle(record["mask"])
    clicks = [Click(*click) for record in records for click in record["clicks"]]
    return click_drawing.zoom_window(shown, clicks)


def target(image: np.ndarray, record: Record, window: Window | None, *, side: int) -> np.ndarray:
    """The complete image with the target, and the frame of a window where there is one, uint8 [h, w, 3].

    Args:
        image: uint8 [H, W, 3] RGB, of the record, at any size.
        record: of the image.
        window: in pixels of the record's image.
        side: longest side of the drawing in pixels.
    """
    mask = masks.decode_rle(record["target"])
    drawn = click_drawing.panel(image, mask, longest=side, color=click_drawing.TARGET_COLOR)
    height, width = record["size"]
    return click_drawing.draw_frame(drawn, window, (height, width)) if window else drawn


def answer(image: np.ndarray, record: Record, window: Window, *, side: int) -> np.ndarray:
    """A window of the image with the outline of the target, the predicted mask and the clicks, uint8 [side, side, 3].

    Args:
        image: uint8 [H, W, 3] RGB, of the record, at its own size.
        record: of the image.
        window: in pixels of the image.
        side: of the drawing in pixels.
    """
    target, mask = masks.decode_rle(record["target"]), masks.decode_rle(record["mask"])
    clicks = [Click(*click) for click in record["clicks"]]
    return click_drawing.window_panel(image, target, mask, clicks, window, side=side)


def complete_answer(image: np.ndarray, record: Record, *, side: int) -> np.ndarray:
    """The complete image with the predicted mask and the clicks, or its parts in their colors, uint8 [h, w, 3].

    Args:
        image: uint8 [H, W, 3] RGB, of the record, at any size.
        record: of the image.
        side: longest side of the drawing in pixels.
    """
    size = (image.shape[0], image.shape[1])
    scale = size[0] / record["size"][0]
    clicks = _scaled(record["clicks"], scale)
    instances = [_instance(part, size, scale) for part in record.get("parts", [])]
    mask = masks.decode_rle(record["mask"])
    return click_drawing.panel(image, mask, clicks, longest=side, instances=instances)


def _scaled(clicks: Sequence[tuple[float, float, bool]], scale: float) -> ClickSequence:
    """The clicks of a record in a resized image; a click is on a pixel's center."""
    return tuple(
        Click((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5, positive) for x, y, positive in clicks
    )


def _instance(part: RecordPart, size: tuple[int, int], scale: float) -> Instance:
    """A part of a record in an image that is resized to `size` (height, width)."""
    mask = Image.fromarray(masks.decode_rle(part["mask"]))
    resized = np.asarray(mask.resize((size[1], size[0]), Image.Resampling.NEAREST))
    return of_mask(_scaled(part["clicks"], scale), resized)
