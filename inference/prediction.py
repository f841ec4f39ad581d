"""What is answered to one question."""

from dataclasses import dataclass

import numpy as np

from geoclick.clicks import ClickSequence


@dataclass(frozen=True)
class Prediction:
    """The answer to one question.

    Attributes:
        mask: bool [H, W] in the frame of the original image; empty when there are no clicks.
        clicks: in pixels of the original image.
        text: what the model wrote; empty where no model was asked.
        status: of the parser (`ok`, `repaired`, `empty`, `unparsable`), or `stored` where no model was asked.
        dropped: clicks that the parser left out, with the reason each.
    """

    mask: np.ndarray
    clicks: ClickSequence
    text: str = ""
    status: str = "stored"
    dropped: tuple[str, ...] = ()
