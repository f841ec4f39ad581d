"""Semantic segmentation: intersection and union of every class over the pixels of all images of a set.

As mmsegmentation's IoUMetric, by which SegEarth-OV publishes: the IoU of a class is its summed intersection over its
summed union, over all images and valid pixels, background included; mIoU is the mean over the classes that occur in a
target or in a mask. With a single class, or `background` and one other class, papers publish the IoU of that class: the
foreground IoU. Each class is asked for separately here, so the masks of two classes may overlap; a classifier's cannot.
"""

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from geoclick.errors import GeoClickError
from geoclick.scoring.intervals import percentiles, resampled_sums

BACKGROUND = "background"


@dataclass
class SemanticScores:
    """Pixel counts of (image, class) pairs: four numbers a pair, and every name once.

    Attributes:
        classes: the index of each class name, in the order of the first pairs.
        images: likewise for image names.
        pairs: image, class, intersection and union of every pair, flat.
    """

    classes: dict[str, int] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    pairs: "array[int]" = field(default_factory=lambda: array("q"))

    def count(self, image: str, category: str, intersection: int, union: int) -> None:
        """Count the pixels of a class in an image."""
        row = self.images.setdefault(image, len(self.images))
        column = self.classes.setdefault(category, len(self.classes))
        self.pairs.extend((row, column, intersection, union))

    def table(self) -> np.ndarray:
        """The pairs, int64 [pairs, 4]."""
        return np.array(self.pairs).reshape(-1, 4)

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Intersections and unions, int64 [images, classes] each."""
        rows, columns, *counts = self.table().T
        planes = np.zeros((2, len(self.images), len(self.classes)), np.int64)
        for plane, count in zip(planes, counts, strict=True):
            np.add.at(plane, (rows, columns), count)
        return planes[0], planes[1]

    def result(self, seed: int = 0) -> dict[str, Any]:
        """The score of the set, fractions of 1; None for a class that is in no target and in no mask.

        Intervals are 95 % bootstrap intervals over images.

        Args:
            seed: random seed of the bootstrap.

        Returns:
            `miou`, `miou_interval`; with one foreground class also `foreground_iou` and `foreground_iou_interval`;
            `per_class` and `per_class_interval` by name, `n` (pairs) and `images`.

        Raises:
            GeoClickError: there is no pair.
        """
        if not self.images:
            raise GeoClickError("There is nothing to score; give at least one sample.")
        intersections, unions = self.pixels()
        count = len(self.classes)
        ious = _ratio(intersections.sum(0), unions.sum(0))
        sums = resampled_sums(np.hstack([intersections, unions]), seed)
        resampled = _ratio(sums[:, :count], sums[:, count:])
        names = list(self.classes)
        foreground = [i for i, name in enumerate(names) if name != BACKGROUND]
        only = foreground[0] if len(foreground) == 1 else None
        return {
            "miou": _plain(_mean(ious)),
            "miou_interval": _interval(_mean(resampled)),
            **({} if only is None else {"foreground_iou": _plain(ious[only])}),
            **({} if only is None else {"foreground_iou_interval": _interval(resampled[:, only])}),
            "per_class": {name: _plain(value) for name, value in zip(names, ious, strict=True)},
            "per_class_interval": {name: _interval(resampled[:, i]) for i, name in enumerate(names)},
            "n": len(self.pairs) // 4,
            "images": len(self.images),
        }


def _ratio(intersections: np.ndarray, unions: np.ndarray) -> np.ndarray:
    """Intersection over union, NaN where the union is empty."""
    return np.divide(intersections, unions, out=np.full(unions.shape, np.nan), where=unions > 0)


def _mean(ious: np.ndarray) -> np.ndarray:
    """The mean over the last axis without NaN; NaN where all values are NaN."""
    valid = ~np.isnan(ious)
    return _ratio(np.where(valid, ious, 0).sum(-1), valid.sum(-1))


def _plain(value: np.ndarray) -> float | None:
    """A number for JSON."""
    return None if np.isnan(value) else float(value)


def _interval(resampled: np.ndarray) -> list[float] | None:
    """[low, high] of the values without NaN, or None."""
    valid = resampled[~np.isnan(resampled)]
    return list(percentiles(valid)) if len(valid) else None
