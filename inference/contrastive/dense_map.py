"""The logits of an image of any size, strip by strip and as often as needed, from one run of CLIP."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from geoclick.inference.contrastive import blending
from geoclick.inference.contrastive.dense import Classes, class_probabilities, enlarge, labels

SCALE = 50.0
"""Factor of the cosines in the softmax over all queries."""

ROWS = 256
"""Rows of an image that are brought to full size at once."""


class DenseMap:
    """The dense logits of an image.

    They are stored on the CPU at the size of the resized tiles, and brought to the image's size strip by strip.

    Args:
        image: uint8 [H, W, 3].
        logits_of: the logits [Q, h, w] of a tile, uint8 [H, W, 3], at any size, such as `dense.small_logits`.
        tile: side in pixels of the tiles that a larger image is cut to.
        overlap: smallest overlap of neighboring tiles in pixels.
    """

    def __init__(
        self, image: np.ndarray, logits_of: Callable[[np.ndarray], Tensor], *, tile: int, overlap: int
    ) -> None:
        self.image, self.tile, self.overlap = image, tile, overlap
        self._logits_of = logits_of
        self._small: list[Tensor] = []
        self._device = torch.device("cpu")

    def strips(self) -> Iterator[tuple[slice, Tensor]]:
        """The rows of each strip, from top to bottom, with their logits, float32 [Q, rows, W]."""
        number = 0

        def logits_of(part: np.ndarray) -> Tensor:
            nonlocal number
            if number == len(self._small):
                logits = self._logits_of(part)
                self._device = logits.device
                self._small.append(logits.cpu())
            number += 1
            small = self._small[number - 1].to(self._device)
            return enlarge(small, (part.shape[0], part.shape[1]))

        for top, logits in blending.strips(self.image, logits_of, tile=self.tile, overlap=self.overlap):
            for start in range(0, logits.shape[1], ROWS):
                piece = logits[:, start : start + ROWS]
                yield slice(top + start, top + start + piece.shape[1]), piece

    def labels(self, classes: Classes, *, threshold: float = 0.0, background: int = 0) -> np.ndarray:
        """As `dense.labels`, int32 [H, W]."""
        result = np.empty(self.image.shape[:2], np.int32)
        for rows, logits in self.strips():
            result[rows] = labels(logits, classes, scale=SCALE, threshold=threshold, background=background)
        return result

    def probabilities(self, classes: Classes) -> Tensor:
        """As `dense.class_probabilities`, float16 [C, H, W] on the CPU, all at once."""
        strips = [
            class_probabilities(logits, classes, scale=SCALE).half().cpu() for _, logits in self.strips()
        ]
        return torch.cat(strips, dim=1)

    def confidence(self, classes: Classes, chosen: np.ndarray) -> np.ndarray:
        """The probability of the class that is chosen for each pixel, int [H, W]; float32 [H, W]."""
        result = np.empty(chosen.shape, np.float32)
        for rows, logits in self.strips():
            probabilities = class_probabilities(logits, classes, scale=SCALE)
            index = torch.as_tensor(chosen[rows], dtype=torch.int64, device=logits.device)
            result[rows] = probabilities.gather(0, index[None])[0].cpu().numpy()
        return result
