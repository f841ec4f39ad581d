"""Answers about large images: every window is asked on its own, and the masks are put together again."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from geoclick.clicks import Box, Click
from geoclick.geo.tiles import Window
from geoclick.inference.generative.prediction import Prediction, failed
from geoclick.instances import Instance

WORST_FIRST = ("failed", "unparsable", "repaired", "ok", "empty")
"""Statuses of answers; that of an image is the first one that any of its windows has."""


def together(size: tuple[int, int], answers: Sequence[tuple[Window, Prediction]]) -> Prediction:
    """The prediction for an image of `size` (height, width) from those of its windows.

    The mask is the union of the masks, and the clicks and samples are those of one window after the other, in pixels of
    the image. The text has a line for each window, and the scores are the lowest ones. A window that failed is an error
    of the image. If a window has an answer of several parts, the instances are those of all windows in turn.
    """
    if len(answers) == 1:
        return answers[0][1]
    if error := next((answer.error for _, answer in answers if answer.error), ""):
        return failed(size, error)
    mask = np.zeros(size, bool)
    clicks: list[Click] = []
    boxes: list[Box] = []
    instances: list[Instance] = []
    several = any(answer.instances for _, answer in answers)
    for window, answer in answers:
        row, column, height, width = window
        mask[row : row + height, column : column + width] |= answer.mask
        clicks += [click._replace(x=click.x + column, y=click.y + row) for click in answer.clicks]
        boxes += [
            (left + column, top + row, right + column, bottom + row)
            for left, top, right, bottom in answer.boxes
        ]
        instances += [one.moved(row, column) for one in answer.objects] if several else []
    statuses = {answer.status for _, answer in answers}
    return Prediction(
        mask=mask,
        clicks=tuple(clicks),
        text="\n".join(answer.text for _, answer in answers),
        status=next((status for status in WORST_FIRST if status in statuses), "stored"),
        dropped=tuple(reason for _, answer in answers for reason in answer.dropped),
        boxes=tuple(boxes),
        samples=tuple(sample for _, answer in answers for sample in answer.samples),
        instances=tuple(instances),
        **lowest_scores([answer for _, answer in answers]),
    )


class Scores(TypedDict):
    """The scores of a prediction, see `Prediction`."""

    score: float | None
    probability: float | None
    agreement: float | None
    confidence: float | None


def lowest_scores(answers: Sequence[Prediction]) -> Scores:
    """The lowest known score of each kind."""
    return {
        "score": min((one.score for one in answers if one.score is not None), default=None),
        "probability": min((one.probability for one in answers if one.probability is not None), default=None),
        "agreement": min((one.agreement for one in answers if one.agreement is not None), default=None),
        "confidence": min((one.confidence for one in answers if one.confidence is not None), default=None),
    }
