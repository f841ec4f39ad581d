"""From a sample and its prediction to a line of predictions.jsonl."""

from typing import TYPE_CHECKING

import numpy as np

from geoclick import masks
from geoclick.scoring import metrics
from geoclick.scoring.records import Record

if TYPE_CHECKING:
    from geoclick.datasets import Sample
    from geoclick.inference.prediction import Prediction


def score_sample(sample: "Sample", prediction: "Prediction", mode: str) -> Record:
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
