"""From a sample and its prediction to a line of predictions.jsonl."""

from typing import TYPE_CHECKING

import numpy as np

from geoclick import masks
from geoclick.instances import Instance
from geoclick.scoring import instances, metrics
from geoclick.scoring.records import UNANSWERED, Record, RecordPart

if TYPE_CHECKING:
    from geoclick.datasets import Sample
    from geoclick.inference.generative.prediction import Prediction


def score_sample(sample: "Sample", prediction: "Prediction", mode: str) -> Record:
    """The record of one sample, its prediction and their scores in a mode."""
    target = sample.mask
    agreement = metrics.compare(
        prediction.mask, target, mode, sample.valid, parsed=prediction.status not in UNANSWERED
    )
    record: Record = {
        "sample_id": sample.sample_id,
        "task": sample.task,
        "category": sample.category,
        "query": sample.query,
        "image": sample.image,
        "size": list(sample.size),
        "iou": agreement.iou,
        "intersection": agreement.intersection,
        "union": agreement.union,
        "boundary_iou": agreement.boundary_iou,
        "area": int(np.count_nonzero(target)),
        "status": prediction.status,
        "text": prediction.text,
        "clicks": [(click.x, click.y, click.positive) for click in prediction.clicks],
        "dropped": list(prediction.dropped),
        "mask": masks.encode_rle(prediction.mask),
        "target": sample.rle,
        "valid": sample.valid_rle,
    }
    if prediction.error:
        record["error"] = prediction.error
    _add_scores(record, prediction)
    if mode != "semantic" and sample.task != "semantic" and target.any():
        listed = [masks.decode_rle(one) for one in sample.instances]
        counted = instances.compare(prediction.instances, prediction.mask, target, listed, sample.valid)
        if counted:
            record["instances"] = counted
    if counts := prediction.counts:
        record["predicted_as"] = list(counts.predicted_as)
        if counts.rest_as is not None:
            record["rest_as"] = list(counts.rest_as)
        if counts.coverage is not None and counts.proposals is not None:
            record |= {"coverage": round(counts.coverage, 6), "proposals": counts.proposals}
    return record


def _add_scores(record: Record, prediction: "Prediction") -> None:
    """Add what is known about how good the mask is, the boxes and the sampled answers."""
    if prediction.score is not None:
        record["score"] = round(prediction.score, 6)
    if prediction.probability is not None:
        record["probability"] = round(prediction.probability, 6)
    if prediction.agreement is not None:
        record["agreement"] = round(prediction.agreement, 6)
    if prediction.confidence is not None:
        record["confidence"] = round(prediction.confidence, 6)
    if prediction.boxes:
        record["boxes"] = [list(box) for box in prediction.boxes]
    if prediction.instances:
        record["parts"] = [_part(one, prediction.mask.shape[:2]) for one in prediction.instances]
    if prediction.samples:
        record["sampled"] = [sample.record() for sample in prediction.samples]


def _part(one: Instance, size: tuple[int, int]) -> RecordPart:
    """A part of an answer about an image of `size` (height, width)."""
    part: RecordPart = {
        "clicks": [(click.x, click.y, click.positive) for click in one.clicks],
        "mask": masks.encode_rle(one.in_image(size)),
    }
    if one.score is not None:
        part["score"] = round(one.score, 6)
    if one.prompt_box:
        part["box"] = list(one.prompt_box)
    return part
