"""The interface of frozen promptable segmenters: embed images once, decode many prompts in one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from geoclick.clicks import Box, ClickSequence


@dataclass(frozen=True, eq=False)
class Embedding:
    """An encoded image, which the caller holds while it clicks on that image.

    Attributes:
        features: float [C, h, w] on the segmenter's device.
        size: (height, width) of the original image.
        input_size: (height, width) of the image inside the encoder's padded square.
        levels: further features that the decoder of the segmenter needs, such as those of higher resolution.
    """

    features: torch.Tensor
    size: tuple[int, int]
    input_size: tuple[int, int]
    levels: tuple[torch.Tensor, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all features."""
        return sum(tensor.nbytes for tensor in (self.features, *self.levels))


@dataclass(frozen=True, eq=False)
class Prompt:
    """What the decoder receives for one mask.

    Attributes:
        clicks: in pixels of the original image; at least one if there is no box.
        low_res: logits [1, h, w] of the previous mask on the segmenter's device, or None.
        box: in pixels of the original image, or None.
    """

    clicks: ClickSequence
    low_res: torch.Tensor | None = None
    box: Box | None = None


@dataclass(frozen=True, eq=False)
class Decoded:
    """The decoder's answer to one prompt.

    Attributes:
        low_res: logits [K, h, w], above zero inside the mask; K is 3 with multimask, else 1.
        scores: predicted IoU [K].
    """

    low_res: torch.Tensor
    scores: torch.Tensor


class Segmenter(Protocol):
    """A frozen promptable segmenter."""

    name: str
    """The name in `geoclick.segmenters.load`."""
    sha256: str
    """Hash of the weight file, hexadecimal."""
    device: torch.device

    def embed(self, images: Sequence[np.ndarray]) -> list[Embedding]:
        """Encode images, each uint8 [H, W, 3] RGB of any size, in batches."""
        ...

    def decode(
        self, embeddings: Sequence[Embedding], prompts: Sequence[Prompt], *, multimask: bool
    ) -> list[Decoded]:
        """Decode `prompts[i]` on `embeddings[i]` in batches; the results equal those of single calls."""
        ...

    def masks(self, low_res: torch.Tensor, embedding: Embedding) -> torch.Tensor:
        """Logits [N, h, w] as masks, bool [N, H, W] on the same device, at the size of the original image."""
        ...
