"""The instances of an answer of several parts: what one prompt of the segmenter gave, cut out of the image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from geoclick.clicks import Box, ClickSequence
from geoclick.masks import bounding_box


@dataclass(frozen=True, eq=False)
class Instance:
    """One object of an answer.

    Attributes:
        clicks: of its prompt, in pixels of the image.
        mask: bool [h, w], the smallest rectangle around its pixels; [0, 0] without any.
        row: of the rectangle's first pixel in the image.
        column: likewise.
        score: the segmenter's predicted IoU; None if unknown.
        prompt_box: of its prompt, in pixels of the image; None if there was none.
    """

    clicks: ClickSequence
    mask: np.ndarray
    row: int = 0
    column: int = 0
    score: float | None = None
    prompt_box: Box | None = None

    @property
    def area(self) -> int:
        """The number of its pixels."""
        return int(np.count_nonzero(self.mask))

    @property
    def box(self) -> Box | None:
        """(left, top, right, bottom), the outermost pixels; None without any."""
        height, width = self.mask.shape
        return (self.column, self.row, self.column + width - 1, self.row + height - 1) if height else None

    def in_image(self, size: tuple[int, int]) -> np.ndarray:
        """Its pixels in an image of `size` (height, width), bool [H, W]."""
        pixels = np.zeros(size, bool)
        height, width = self.mask.shape
        pixels[self.row : self.row + height, self.column : self.column + width] = self.mask
        return pixels

    def moved(self, row: int, column: int) -> "Instance":
        """The same instance in a larger image, in which its own image begins at (row, column)."""
        clicks = tuple(click._replace(x=click.x + column, y=click.y + row) for click in self.clicks)
        box = self.prompt_box and (
            self.prompt_box[0] + column,
            self.prompt_box[1] + row,
            self.prompt_box[2] + column,
            self.prompt_box[3] + row,
        )
        return replace(self, clicks=clicks, row=self.row + row, column=self.column + column, prompt_box=box)

    def within(self, mask: np.ndarray) -> "Instance":
        """The instance without the pixels outside a mask, bool [H, W] of the image."""
        return of_mask(
            self.clicks, self.in_image(mask.shape[:2]) & mask, score=self.score, prompt_box=self.prompt_box
        )

    def resized(self, size: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
        """Its pixels in an image of `size` (height, width) that is resized to `new`, by nearest pixels, bool [h, w]."""
        pixels = np.zeros(new, bool)
        if not self.mask.size:
            return pixels
        rows, columns = (
            np.floor((np.arange(after) + 0.5) * before / after).astype(int) - start
            for before, after, start in zip(size, new, (self.row, self.column), strict=True)
        )
        inside = [
            (places >= 0) & (places < length)
            for places, length in zip((rows, columns), self.mask.shape, strict=True)
        ]
        pixels[np.ix_(*inside)] = self.mask[np.ix_(rows[inside[0]], columns[inside[1]])]
        return pixels


def of_mask(
    clicks: ClickSequence, mask: np.ndarray, *, score: float | None = None, prompt_box: Box | None = None
) -> Instance:
    """The instance of a mask, bool [H, W] of the image."""
    box = bounding_box(mask)
    if box is None:
        return Instance(clicks, np.zeros((0, 0), bool), score=score, prompt_box=prompt_box)
    return Instance(clicks, mask[box].copy(), box[0].start, box[1].start, score, prompt_box)


def by_area(instances: Sequence[Instance]) -> list[int]:
    """The positions of instances, the top one first: the smallest is on top, of equal ones the earlier one."""
    return sorted(range(len(instances)), key=lambda i: (instances[i].area, i))
