"""What an augmented row shows of its image, and where clicks and masks go with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from geoclick import mask_overlay
from geoclick.clicks import Click
from geoclick.geo import reading

Size = tuple[int, int]


@dataclass(frozen=True)
class ImageView:
    """A part of an image, resized to the size of the image, then mirrored, then rotated.

    A view has as many visual tokens as the image: only height and width may change places.

    Attributes:
        crop: (left, top, width, height) of the part, in whole pixels of the image; None is the full image.
        mirrored: left to right.
        turns: quarter turns, counterclockwise.
    """

    crop: tuple[int, int, int, int] | None = None
    mirrored: bool = False
    turns: int = 0

    def size(self, size: Size) -> Size:
        """(height, width) of the view of an image of `size`."""
        return size[::-1] if self.turns % 2 else size

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """The view of an image, uint8 [H, W, 3]; contiguous, in its own memory."""
        return self._transformed(image, Image.Resampling.BICUBIC)

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """The view of an image's mask, bool [H, W]."""
        return self._transformed(mask, Image.Resampling.NEAREST)

    def _transformed(self, pixels: np.ndarray, resample: Image.Resampling) -> np.ndarray:
        if self.crop is not None:
            left, top, width, height = self.crop
            part = pixels[top : top + height, left : left + width]
            pixels = np.asarray(Image.fromarray(part).resize(pixels.shape[1::-1], resample))
        if self.mirrored:
            pixels = pixels[:, ::-1]
        return np.rot90(pixels, self.turns).copy()

    def click(self, click: Click, size: Size) -> Click:
        """A click on an image of `size` (height, width) as one on the view; it must lie in the crop."""
        (x, y, positive), (height, width) = click, size
        if self.crop is not None:
            left, top, part_width, part_height = self.crop
            # A whole number is a pixel's center, and sides are half a pixel away from it.
            x = (x - left + 0.5) * width / part_width - 0.5
            y = (y - top + 0.5) * height / part_height - 0.5
        if self.mirrored:
            x = width - 1 - x
        for _ in range(self.turns):
            x, y, height, width = y, width - 1 - x, width, height
        return Click(x, y, positive)

    def direction(self, direction: tuple[int, int]) -> tuple[int, int]:
        """Where a direction (columns, rows) of the image points in the view."""
        x, y = direction
        if self.mirrored:
            x = -x
        for _ in range(self.turns):
            x, y = y, -x
        return x, y


FULL_IMAGE = ImageView()
"""The image as it is."""


class ShownImage(NamedTuple):
    """An image as a row shows it: a `mask_overlay.reference`, the (height, width) of the file, a view of it."""

    path: str
    size: Size
    view: ImageView = FULL_IMAGE

    def read(self) -> np.ndarray:
        """Its pixels, uint8 [H, W, 3]; raises GeoClickError when the file is missing, broken or of another size."""
        path, mask = mask_overlay.parse(self.path, self.size)
        image = reading.read_image(path, size=self.size)
        return self.view.pixels(image if mask is None else mask_overlay.draw(image, mask))


def shown_images(row: Mapping[str, Any]) -> list[ShownImage]:
    """The images of a row, which may have none; its `view` is that of all of them."""
    sizes = zip(row["size"][::2], row["size"][1::2], strict=True)
    view = row.get("view", FULL_IMAGE)
    return [ShownImage(path, size, view) for path, size in zip(row["images"], sizes, strict=True)]
