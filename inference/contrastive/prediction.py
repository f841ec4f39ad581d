"""The classes of an image, as CLIP and SAM or SAM 3 predict them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class SemanticPrediction:
    """The classes of an image.

    Attributes:
        labels: the class of each pixel, int32 [H, W].
        confidence: the probability or score of that class at each pixel, float32 [H, W].
        coverage: share of the pixels in at least one proposal; None without proposals.
        proposals: their number; None without proposals.
    """

    labels: np.ndarray
    confidence: np.ndarray
    coverage: float | None = None
    proposals: int | None = None
