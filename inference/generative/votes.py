"""Several sampled answers to one query, put together: each pixel takes the majority of their masks."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from geoclick import masks
from geoclick.inference.generative.prediction import Prediction, SampledAnswer
from geoclick.scoring.records import UNANSWERED


def together(answers: Sequence[Prediction], threshold: float) -> Prediction:
    """The prediction from sampled answers to one query.

    Answers that cannot be read have no vote. Clicks, boxes, text, status and scores are those of the answer whose
    mask is most similar to the mask of the vote, the first one of equals; its instances lose the pixels that the vote
    lacks. `agreement` is the mean IoU of all pairs of masks. Without any answer that can be read, it is the first one.

    Args:
        answers: in the order of the samples.
        threshold: see `settings.Votes`.
    """
    samples = tuple(
        SampledAnswer(one.text, one.status, one.error, one.score, one.probability) for one in answers
    )
    voting = [one for one in answers if one.status not in UNANSWERED]
    if not voting:
        # One that could be asked for is no failure.
        first = next((one for one in answers if not one.error), answers[0])
        return replace(first, samples=samples)
    sampled = [one.mask for one in voting]
    mask = np.sum(sampled, axis=0) > threshold * len(sampled)
    similar = max(range(len(voting)), key=lambda i: (masks.iou(sampled[i], mask), -i))
    instances = tuple(one.within(mask) for one in voting[similar].instances)
    return replace(
        voting[similar], mask=mask, agreement=agreement(sampled), samples=samples, instances=instances
    )


def agreement(sampled: Sequence[np.ndarray]) -> float:
    """The mean IoU of all pairs of masks, bool [H, W]; 1 for a single mask.

    Bayesian QuickNAT (arXiv 1811.09800) takes the mean Dice score of all pairs as the confidence of sampled
    segmentations; here it is the IoU, the score of an evaluation.
    """
    pairs = [masks.iou(a, b) for a, b in combinations(sampled, 2)]
    return float(np.mean(pairs)) if pairs else 1.0
