"""The answer to one query about one image."""

from dataclasses import dataclass

import numpy as np

from geoclick.clicks import Box, ClickSequence
from geoclick.instances import Instance, of_mask
from geoclick.scoring.records import Sampled


@dataclass(frozen=True)
class MapCounts:
    """What the map of an image says about one class.

    Attributes:
        predicted_as: pixels of the target by the class that the map gives them, one number for each class.
        rest_as: likewise for all other scored pixels, where no other sample of the image has them as its target.
        coverage: share of the image's pixels in at least one proposal; None without proposals.
        proposals: their number; None without proposals.
    """

    predicted_as: tuple[int, ...]
    rest_as: tuple[int, ...] | None = None
    coverage: float | None = None
    proposals: int | None = None


@dataclass(frozen=True)
class SampledAnswer:
    """One of several sampled answers to a query.

    Attributes:
        text: the model's answer.
        status: of its parser, or `failed`.
        error: why the status is `failed`; else empty.
        score: the segmenter's predicted IoU of its mask; None if it decoded nothing.
        probability: see `Prediction`.
    """

    text: str
    status: str
    error: str = ""
    score: float | None = None
    probability: float | None = None

    def record(self) -> Sampled:
        """For a record, without what is not known."""
        line: Sampled = {"text": self.text, "status": self.status}
        if self.error:
            line["error"] = self.error
        if self.score is not None:
            line["score"] = round(self.score, 6)
        if self.probability is not None:
            line["probability"] = round(self.probability, 6)
        return line


@dataclass(frozen=True)
class Prediction:
    """The answer to one query about one image.

    Attributes:
        mask: bool [H, W] in the frame of the original image; empty when there are no clicks.
        clicks: in pixels of the original image.
        text: the model's answer; empty if no model was asked.
        status: of the parser (`ok`, `repaired`, `empty`, `unparsable`), `stored` if no model was asked, `map` if it is
            a class of a map, or `failed` if the models cannot take the image or a server did not answer.
        dropped: clicks that were left out, with the reason each.
        score: the segmenter's predicted IoU of the mask; None if it decoded nothing.
        probability: geometric mean of the probabilities of the answer's tokens; None if the backend does not know them.
        error: why the status is `failed`, one sentence with the fix; else empty.
        counts: of a class of a map; else None.
        tokens: of the answer, the one that ends it included; None if the backend does not count them.
        boxes: of the answer, in pixels of the original image.
        samples: all answers, if several were sampled; the fields above are of one of them, the mask is of their vote.
        agreement: mean IoU of all pairs of masks of the samples; None if there is only one answer.
        confidence: see geoclick/inference/generative/confidence.py; None if nothing is known.
        instances: of an answer of several parts, one for each in its order; else empty, and the mask is one object.
    """

    mask: np.ndarray
    clicks: ClickSequence
    text: str = ""
    status: str = "stored"
    dropped: tuple[str, ...] = ()
    score: float | None = None
    probability: float | None = None
    error: str = ""
    counts: MapCounts | None = None
    tokens: int | None = None
    boxes: tuple[Box, ...] = ()
    samples: tuple[SampledAnswer, ...] = ()
    agreement: float | None = None
    confidence: float | None = None
    instances: tuple[Instance, ...] = ()

    @property
    def objects(self) -> tuple[Instance, ...]:
        """The instances, or the mask as the only one; none for an empty mask without clicks."""
        if self.instances or not (self.clicks or self.mask.any()):
            return self.instances
        box = self.boxes[0] if self.boxes else None
        return (of_mask(self.clicks, self.mask, score=self.score, prompt_box=box),)


def failed(size: tuple[int, int], error: str) -> Prediction:
    """The prediction for an image of `size` (height, width) about which there is no answer."""
    return Prediction(np.zeros(size, bool), (), status="failed", error=error)
