"""predictions.jsonl: a line a sample, with all that metrics, report and comparison need but the image."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick import masks
from geoclick.scoring import metrics

if TYPE_CHECKING:
    from geoclick.datasets import Sample
    from geoclick.inference.prediction import Prediction

PREDICTIONS = "predictions.jsonl"


def record(sample: "Sample", prediction: "Prediction", mode: str) -> dict:
    """The line of one sample: what was asked, what was answered, and how far the two agree.

    `iou`, `intersection`, `union` and `boundary_iou` are at the size at which the mode scores, all else at the image's.
    """
    target = sample.mask
    found = metrics.compare(
        prediction.mask, target, mode, sample.valid, parsed=prediction.status != "unparsable"
    )
    return {
        "sample_id": sample.sample_id,
        "task": sample.task,
        "category": sample.category,
        "query": sample.query,
        "image": sample.image,
        "size": list(sample.size),
        "iou": found.iou,
        "intersection": found.intersection,
        "union": found.union,
        "boundary_iou": found.boundary_iou,
        "area": int(np.count_nonzero(target)),
        "status": prediction.status,
        "text": prediction.text,
        "clicks": [list(click) for click in prediction.clicks],
        "dropped": list(prediction.dropped),
        "mask": masks.encode_rle(prediction.mask),
        "target": sample.rle,
        "valid": sample.valid_rle,
    }


def read(path: Path) -> Iterator[dict]:
    """The lines of a whole predictions.jsonl, one at a time."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)
