"""The lines of predictions.jsonl: one for each sample, with all that metrics, reports and comparisons need."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from geoclick.masks import MAX_PIXELS, Rle
from geoclick.plain_text import OUTSIDE
from geoclick.yaml_file import Yaml

PREDICTIONS = "predictions.jsonl"
UNANSWERED = ("unparsable", "failed")
"""Statuses of samples without an answer that can be read."""
TEXTS = ("sample_id", "task", "category", "query", "image", "status", "text", "error")
"""Fields of a record that are texts."""
CUT = "cut at the length limit"
"""Among the dropped clicks of an answer that reached the length limit: what it lacks."""


class Sampled(TypedDict):
    """One of several sampled answers; fields as in Record, but those of its own mask."""

    text: str
    status: str
    error: NotRequired[str]
    score: NotRequired[float]
    probability: NotRequired[float]


class RecordPart(TypedDict):
    """One part of an answer of several; fields as in Record, but of its own mask."""

    clicks: list[tuple[float, float, bool]]
    mask: Rle
    score: NotRequired[float]
    box: NotRequired[list[float]]


class InstanceCounts(TypedDict):
    """True and predicted instances of a sample whose target has several, see geoclick/scoring/instances.py."""

    true: int
    predicted: int
    matched: int


class Record(TypedDict):
    """One sample with its query, its answer and how far the two masks agree.

    `iou`, `intersection`, `union` and `boundary_iou` are at the size at which the mode scores, all else at the size of
    the image.

    Attributes:
        sample_id: unique in the dataset.
        task: of the sample, one of `geoclick.datasets.sample.TASKS`.
        category: class of the target; empty where the dataset has none.
        query: the user's text.
        image: path relative to the dataset's root.
        size: [height, width] of the image in pixels.
        iou: of predicted mask and target.
        intersection: pixels in both.
        union: pixels in either.
        boundary_iou: IoU of the bands along the two borders.
        area: pixels of the target.
        status: of the parsed answer (`ok`, `repaired`, `empty`, `unparsable`), `stored` if no model was asked, `map`
            if it is a class of a map, or `failed` if the models cannot take the image or a server did not answer.
        text: the model's answer.
        clicks: [x, y, positive] each, in pixels of the image.
        dropped: clicks that were left out, with the reason each.
        mask: the prediction.
        target: the ground truth.
        valid: the pixels that count; None when all do.
        error: why the status is `failed`.
        score: the segmenter's predicted IoU of the mask, where it decoded one.
        probability: geometric mean of the probabilities of the answer's tokens, where the backend knows them.
        agreement: mean IoU of all pairs of masks of sampled answers.
        confidence: all of them together, see geoclick/inference/generative/prediction.py.
        boxes: [left, top, right, bottom] of each box of the answer, the outermost pixels inside it.
        parts: of an answer of several parts, in its order.
        instances: of a sample whose target has several.
        sampled: all sampled answers; text, clicks and the scores above are those of one of them.
        predicted_as: of maps: pixels of the target by the class that the map gives them, in the protocol's order.
        rest_as: likewise for all other scored pixels, where the image has no other sample.
        coverage: of maps from proposals: share of the image's pixels in at least one of them.
        proposals: their number.
    """

    sample_id: str
    task: str
    category: str
    query: str
    image: str
    size: list[int]
    iou: float
    intersection: int
    union: int
    boundary_iou: float
    area: int
    status: str
    text: str
    clicks: list[tuple[float, float, bool]]
    dropped: list[str]
    mask: Rle
    target: Rle
    valid: Rle | None
    error: NotRequired[str]
    score: NotRequired[float]
    probability: NotRequired[float]
    agreement: NotRequired[float]
    confidence: NotRequired[float]
    boxes: NotRequired[list[list[float]]]
    parts: NotRequired[list[RecordPart]]
    instances: NotRequired[InstanceCounts]
    sampled: NotRequired[list[Sampled]]
    predicted_as: NotRequired[list[int]]
    rest_as: NotRequired[list[int]]
    coverage: NotRequired[float]
    proposals: NotRequired[int]


def _checked(record: Record) -> Record:
    """A line of predictions.jsonl; raises ValueError if a value in it is impossible."""
    if not isinstance(record, dict):
        raise ValueError("a line is no record")
    name, values = str(record.get("sample_id"))[:80], cast(dict[str, Yaml], record)
    _check_texts(values, name)
    for key in ("iou", "boundary_iou"):
        value = values.get(key, 0)
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"{key} of {name} is not from 0 to 1")
    for key in ("intersection", "union", "area"):
        value = values.get(key, 0)
        if not isinstance(value, int) or not 0 <= value <= MAX_PIXELS:
            raise ValueError(f"{key} of {name} is no number of pixels")
    if record.get("intersection", 0) > record.get("union", MAX_PIXELS):
        raise ValueError(f"intersection of {name} is larger than its union")
    if re.search(OUTSIDE, record["image"]):
        raise ValueError(f"image of {name} lies outside its dataset")
    _check_answer(values, values.get("size"), name)
    for key in ("target", "valid"):
        if key in values and not (key == "valid" and values[key] is None):
            _check_mask(values[key], values.get("size"), f"{key} of {name}")
    parts = values.get("parts", [])
    if not (isinstance(parts, list) and all(map(_is_part, parts))):
        raise ValueError(f"parts of {name} are no list of masks with clicks")
    for part in parts:
        _check_answer(cast(dict[str, Yaml], part), values.get("size"), f"a part of {name}")
    return record


def _check_texts(values: dict[str, Yaml], name: str) -> None:
    """Raise ValueError if a text of a record is missing, is another value or cannot be written to a page."""
    for key in TEXTS:
        value = values.get(key, "" if key == "error" else None)
        if not isinstance(value, str) or re.search("[\ud800-\udfff]", value):
            raise ValueError(f"{key} of {name} is no text")


def _check_answer(values: dict[str, Yaml], size: Yaml, name: str) -> None:
    """Raise ValueError if the mask of an answer or of a part has another size or a click is impossible."""
    if "mask" in values:
        _check_mask(values["mask"], size, f"mask of {name}")
    clicks = values.get("clicks", [])
    if not (isinstance(clicks, list) and all(map(_is_click, clicks))):
        raise ValueError(f"a click of {name} is not x, y and its sign")


def _check_mask(mask: Yaml, size: Yaml, name: str) -> None:
    """Raise ValueError if a mask has not the size of its image, [height, width]."""
    if not isinstance(mask, dict) or mask.get("size") != size:
        raise ValueError(f"{name} has not the size of its image")


def _is_click(values: Yaml) -> bool:
    """Whether a value is [x, y, positive]."""
    if not (isinstance(values, list) and len(values) == 3 and isinstance(values[2], bool)):
        return False
    return all(isinstance(value, int | float) and abs(value) <= MAX_PIXELS for value in values[:2])


def _is_part(part: Yaml) -> bool:
    """Whether a value has what every part of an answer has."""
    return isinstance(part, dict) and {"mask", "clicks"} <= part.keys()


def read(path: Path) -> Iterator[Record]:
    """The lines of a complete predictions.jsonl, one at a time.

    Raises ValueError if a line is no JSON object, or a number in it is impossible.

    Earlier versions scored an answer that cannot be read as a correct one where there is no target; here it scores 0.
    """
    with path.open(encoding="utf-8") as file:
        for line in file:
            record = _checked(json.loads(line))
            if record.get("status") in UNANSWERED and not record.get("union", 1):
                record |= {"iou": 0.0, "boundary_iou": 0.0}
            yield record
