"""What every frozen promptable segmenter offers: embed images once, decode many prompts in one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from geoclick.clicks import ClickSequence


@dataclass(frozen=True, eq=False)
class Embedding:
    """An encoded image, kept by the caller for as long as it clicks on that image.

    Attributes:
        features: float [C, h, w] on the segmenter's device.
        size: (height, width) of the original image.
        input_size: (height, width) of the image inside the encoder's padded square.
    """

    features: torch.Tensor
    size: tuple[int, int]
    input_size: tuple[int, int]


Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Prompt:
    """What the decoder receives for one mask.

    Attributes:
        clicks: in pixels of the original image; at least one where there is no box.
        low_res: logits [1, h, w] of the mask so far on the segmenter's device, or None for none.
        box: (left, top, right, bottom), the outermost pixels inside it, or None for none.
    """

    clicks: ClickSequence
    low_res: torch.Tensor | None = None
    box: Box | None = None


@dataclass(frozen=True, eq=False)
class Decoded:
    """The decoder's answer to one prompt.

    Attributes:
        low_res: logits [K, h, w], above zero inside; K is 3 with multimask, else 1.
        scores: predicted IoU [K].
    """

    low_res: torch.Tensor
    scores: torch.Tensor


class Segmenter(Protocol):
    """A frozen promptable segmenter."""

    name: str
    """The name that loads it again."""
    sha256: str
    """Hash of the weight file, hexadecimal."""
    device: torch.device

    def embed(self, images: Sequence[np.ndarray]) -> list[Embedding]:
        """Encode images, each uint8 [H, W, 3] RGB of any size, in batches."""
        ...

    def decode(
        self, embeddings: Sequence[Embedding], prompts: Sequence[Prompt], *, multimask: bool
    ) -> list[Decoded]:
        """Decode `prompts[i]` on `embeddings[i]`, all together; the answers equal those of one by one."""
        ...

    def masks(self, low_res: torch.Tensor, embedding: Embedding) -> torch.Tensor:
        """Logits [N, h, w] as masks, bool [N, H, W] on the same device, in the frame of the original image."""
        ...
