"""Crops of an image: the layers of segment-anything's mask generator, and windows of a large image."""

import math
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

OVERLAP = 512 / 1500
"""Share of the shorter side that neighbors of the first crop layer have in common."""

EDGE = 20
"""Pixels from the edge of a crop within which the box of a mask counts as cut off."""


class Crop(NamedTuple):
    """A part of an image in pixels; `right` and `bottom` are the first pixels outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left

    def of(self, image: np.ndarray) -> np.ndarray:
        """This part of an image [H, W, ...]."""
        return image[self.top : self.bottom, self.left : self.right]


def complete(size: tuple[int, int]) -> Crop:
    """The crop that is all of an image of `size` (height, width)."""
    return Crop(0, 0, size[1], size[0])


def layers(size: tuple[int, int], count: int) -> list[Crop]:
    """The complete image, then 2 x 2 crops, then 4 x 4, up to `count` such layers; column by column.

    Neighbors overlap by OVERLAP of the shorter side in the first layer, and by half as much in each further one.
    """
    height, width = size
    crops = [complete(size)]
    for layer in range(1, count + 1):
        side = 2**layer
        overlap = int(OVERLAP * min(size) * (2 / side))
        tall, wide = (math.ceil((overlap * (side - 1) + length) / side) for length in size)
        corners = product(*(range(0, side * (length - overlap), length - overlap) for length in (wide, tall)))
        crops += [
            Crop(x, y, min(x + wide, width), min(y + tall, height))
            for x, y in corners
            if x < width and y < height
        ]
    return crops


def windows(size: tuple[int, int], side: int) -> list[Crop]:
    """An image of `size` (height, width) in windows of about equal size, at most `side` pixels a side, row by row."""
    rows, columns = (
        np.linspace(0, length, math.ceil(length / side) + 1).round().astype(int).tolist() for length in size
    )
    return [
        Crop(left, top, right, bottom) for top, bottom in pairwise(rows) for left, right in pairwise(columns)
    ]


def cut_off(boxes: Tensor, crop: Crop, size: tuple[int, int]) -> Tensor:
    """Whether each box ends near an edge of its crop where the image continues.

    Args:
        boxes: (left, top, right, bottom) in pixels of the image, outermost pixels inside, [N, 4].
        crop: of all boxes.
        size: (height, width) of the image.
    """
    of_crop, of_image = (
        (boxes - torch.tensor(edges, device=boxes.device)).abs() <= EDGE for edges in (crop, complete(size))
    )
    return (of_crop & ~of_image).any(1)


def uncropped(runs: np.ndarray, crop: Crop, size: tuple[int, int]) -> np.ndarray:
    """The run lengths of a mask in a crop as those in the image; column by column, zeros first."""
    if crop == complete(size):
        return runs
    height = crop.size[0]
    edges = np.cumsum(runs)
    starts, ends = edges[:-1:2], edges[1::2]
    starts = starts[: len(ends)]
    first, last = starts // height, (ends - 1) // height
    counts = last - first + 1
    # The runs of ones, cut at the ends of columns.
    column = (
        np.repeat(first, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    )
    starts = np.maximum(np.repeat(starts, counts), column * height)
    ends = np.minimum(np.repeat(ends, counts), (column + 1) * height)
    shift = crop.top + crop.left * size[0] + column * (size[0] - height)
    return from_intervals(starts + shift, ends + shift, size[0] * size[1])


def from_intervals(starts: np.ndarray, ends: np.ndarray, total: int) -> np.ndarray:
    """Run lengths of ascending intervals of ones [start, end) in `total` pixels; those that touch are joined."""
    apart = starts[1:] != ends[:-1]
    edges = np.empty(2 * (1 + np.count_nonzero(apart)) if len(starts) else 0, np.int64)
    if len(starts):
        edges[::2] = starts[np.concatenate(([True], apart))]
        edges[1::2] = ends[np.concatenate((apart, [True]))]
    if not len(edges) or edges[-1] != total:
        edges = np.append(edges, total)
    return np.diff(edges, prepend=0)
