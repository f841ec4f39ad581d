"""The class probabilities of an image of any size, strip by strip and as often as needed, from one run of CLIP."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from geoclick.inference.contrastive import blending
from geoclick.inference.contrastive.dense import Classes, class_probabilities, enlarge

SCALE = 50.0
"""Factor of the cosines in the softmax over all queries."""

ROWS = 256
"""Rows of an image that are brought to full size at once."""

HELD = 2**26
"""Probabilities of an image that are held at once; those of a larger one are computed again for each use."""


class DenseMap:
    """The dense logits of an image, and the class probabilities that follow from them.

    The logits are stored on the CPU at the size of the resized tiles, and brought to the image's size strip by strip.

    Args:
        image: uint8 [H, W, 3].
        logits_of: the logits [Q, h, w] of a tile, uint8 [H, W, 3], at any size, such as `dense.small_logits`.
        classes: the class of each query.
        tile: side in pixels of the tiles that a larger image is cut to.
        overlap: smallest overlap of neighboring tiles in pixels.
        scale: factor of the cosines in the softmax over all queries.
    """

    def __init__(
        self,
        image: np.ndarray,
        logits_of: Callable[[np.ndarray], Tensor],
        classes: Classes,
        *,
        tile: int,
        overlap: int,
        scale: float = SCALE,
    ) -> None:
        self.image, self.classes, self.tile, self.overlap, self.scale = image, classes, tile, overlap, scale
        self._logits_of = logits_of
        self._small: list[Tensor] = []
        self._device = torch.device("cpu")
        self._held: list[Tensor] = []

    def logits(self) -> Iterator[tuple[slice, Tensor]]:
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

    def strips(self) -> Iterator[tuple[slice, Tensor]]:
        """The rows of each strip, with the probabilities of the classes, float32 [C, rows, W]."""
        if self._held:
            top = 0
            for piece in self._held:
                yield slice(top, top + piece.shape[1]), piece
                top += piece.shape[1]
            return
        held: list[Tensor] = []
        for rows, logits in self.logits():
            piece = class_probabilities(logits, self.classes, scale=self.scale)
            if len(piece) * self.image.shape[0] * self.image.shape[1] <= HELD:
                held.append(piece)
            yield rows, piece
        self._held = held

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """The most probable class of each pixel, int32 [H, W], and its probability, float32 [H, W]."""
        chosen = np.empty(self.image.shape[:2], np.int32)
        highest = np.empty(self.image.shape[:2], np.float32)
        for rows, probabilities in self.strips():
            values, index = probabilities.max(dim=0)
            chosen[rows], highest[rows] = index.int().cpu().numpy(), values.cpu().numpy()
        return chosen, highest

    def labels(self, *, threshold: float = 0.0, background: int = 0) -> np.ndarray:
        """As `dense.labels`, int32 [H, W]."""
        return above(*self.best(), threshold=threshold, background=background)

    def probabilities(self) -> Tensor:
        """As `dense.class_probabilities`, float16 [C, H, W] on the CPU, all at once."""
        return torch.cat([probabilities.half().cpu() for _, probabilities in self.strips()], dim=1)

    def confidence(self, chosen: np.ndarray) -> np.ndarray:
        """The probability of the class that is chosen for each pixel, int [H, W]; float32 [H, W]."""
        result = np.empty(chosen.shape, np.float32)
        for rows, probabilities in self.strips():
            index = torch.as_tensor(chosen[rows], dtype=torch.int64, device=probabilities.device)
            result[rows] = probabilities.gather(0, index[None])[0].cpu().numpy()
        return result


def above(best: np.ndarray, probability: np.ndarray, *, threshold: float, background: int) -> np.ndarray:
    """The labels of `DenseMap.best`, with `background` where the probability is below the threshold, int32 [H, W]."""
    # In the arithmetic of the probabilities.
    return np.where(probability < np.float32(threshold), np.int32(background), best)
