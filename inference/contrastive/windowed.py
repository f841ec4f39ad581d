"""A map of classes of a large image, made window by window, with the classes that the complete image would get.

CLIP's tiles overlap and blend across the borders of windows; a proposal lies in one window, as in
`proposals.propose_with`, whose windows these are. So no pixel depends on more than one window and the tiles around it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from geoclick import devices
from geoclick.geo.tiles import Window
from geoclick.geo.writing import NO_DATA
from geoclick.inference.contrastive import image_crops
from geoclick.inference.contrastive.prediction import SemanticPrediction


class Source(Protocol):
    """An image that is read window by window, such as a RasterView."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        ...

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """A window: uint8 [H, W, 3] RGB, and the pixels with data, bool [H, W]; None if all have some."""
        ...


class WindowMap(NamedTuple):
    """The map of a window; its pixels without data have the label NO_DATA."""

    window: Window
    prediction: SemanticPrediction


def maps(
    source: Source,
    side: int,
    logits_at: Callable[[Window], Tensor],
    decide: Callable[[np.ndarray, Tensor], SemanticPrediction],
) -> Iterator[WindowMap]:
    """The maps of windows that cover an image without overlap, row by row.

    Windows without data are not shown to the models.

    Args:
        source: the image.
        side: largest side of a window in pixels.
        logits_at: the blended logits of a window [Q, H, W], such as `Blend.at`.
        decide: the classes of a window from its pixels, uint8 [H, W, 3], and logits.
    """
    for crop in image_crops.windows(source.size, side):
        window = Window(crop.top, crop.left, *crop.size)
        pixels, valid = source.read(window)
        if valid is not None and not valid.any():
            yield WindowMap(window, _empty(crop.size))
            continue
        with devices.enough_memory(f"a window of {window.width}x{window.height} pixels"):
            found = decide(pixels, logits_at(window))
        if valid is not None:
            found = replace(found, labels=np.where(valid, found.labels, NO_DATA).astype(np.int32))
        yield WindowMap(window, found)


def _empty(size: tuple[int, int]) -> SemanticPrediction:
    """The map of a window without data."""
    return SemanticPrediction(np.full(size, NO_DATA, np.int32), np.zeros(size, np.float32))
