"""Answers about large images: every window is asked on its own, and the masks are put together again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from geoclick.clicks import Click
from geoclick.geo import tiles
from geoclick.geo.tiles import Window
from geoclick.inference.prediction import Prediction, failed

if TYPE_CHECKING:
    from geoclick.inference.pipeline import Pipeline

WORST_FIRST = ("failed", "unparsable", "repaired", "ok", "empty")
"""Statuses of answers; that of an image is the first one that any of its windows has."""


def cut(size: tuple[int, int], tile: int | None, overlap: int) -> list[Window]:
    """The windows of an image of `size` (height, width), row by row; a single one where `tile` is None."""
    if tile is None:
        return [Window(0, 0, *size)]
    grid = tiles.cut(size, tile, overlap)
    return [tiles.window(grid, place) for place in tiles.all_tiles(grid)]


def predict(
    pipeline: "Pipeline",
    images: Sequence[np.ndarray],
    texts: Sequence[str],
    *,
    tile: int | None,
    overlap: int,
) -> list[Prediction]:
    """A prediction for each pair of image and text, in the frame of the complete image.

    Args:
        pipeline: the models.
        images: uint8 [H, W, 3] RGB; arrays that occur several times are cut and embedded once.
        texts: what to segment in each.
        tile: largest side of a window in pixels; None asks about complete images.
        overlap: smallest number of pixels that neighboring windows share.
    """
    if tile is None:
        return pipeline.predict_batch(images, texts)
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    windows = [cut(size, tile, overlap) for size in sizes]
    parts: dict[int, list[np.ndarray]] = {}
    for image, of_image in zip(images, windows, strict=True):
        if id(image) not in parts:
            cuts = len(of_image) > 1
            parts[id(image)] = [tiles.crop(image, window) if cuts else image for window in of_image]
    asked = [(part, text) for image, text in zip(images, texts, strict=True) for part in parts[id(image)]]
    answers = iter(pipeline.predict_batch([part for part, _ in asked], [text for _, text in asked]))
    return [
        together(size, [(window, next(answers)) for window in of_image])
        for size, of_image in zip(sizes, windows, strict=True)
    ]


def together(size: tuple[int, int], answers: Sequence[tuple[Window, Prediction]]) -> Prediction:
    """The prediction for an image of `size` (height, width) from those of its windows.

    The mask is the union of the masks, and the clicks are in pixels of the image, window by window. The text has a
    line for each window. A window that failed is an error of the image.
    """
    if len(answers) == 1:
        return answers[0][1]
    if error := next((answer.error for _, answer in answers if answer.error), ""):
        return failed(size, error)
    mask = np.zeros(size, bool)
    clicks: list[Click] = []
    for window, answer in answers:
        row, column, height, width = window
        mask[row : row + height, column : column + width] |= answer.mask
        clicks += [click._replace(x=click.x + column, y=click.y + row) for click in answer.clicks]
    statuses = {answer.status for _, answer in answers}
    scores = [answer.score for _, answer in answers if answer.score is not None]
    return Prediction(
        mask=mask,
        clicks=tuple(clicks),
        text="\n".join(answer.text for _, answer in answers),
        status=next((status for status in WORST_FIRST if status in statuses), "stored"),
        dropped=tuple(reason for _, answer in answers for reason in answer.dropped),
        score=min(scores, default=None),
    )
