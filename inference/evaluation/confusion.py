"""Confusion matrix and coverage of the maps of an evaluation, summed from its records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from geoclick.scoring.records import Record
from geoclick.yaml_file import Yaml


class ConfusionResult(TypedDict):
    """The confusion matrix of a set of maps.

    Attributes:
        classes: names, in the order of both axes.
        pixels: rows are true classes, columns predicted ones; pixels that are not scored are left out.
        accuracy: share of the pixels with their true class; None without pixels.
        images: number of images that are in it; those that failed are not.
    """

    classes: list[str]
    pixels: list[list[int]]
    accuracy: float | None
    images: int


class CoverageResult(TypedDict):
    """The proposals of a set of maps.

    Attributes:
        mean: over the images, of the share of pixels in at least one proposal.
        proposals_per_image: mean number.
        images: number of images.
    """

    mean: float
    proposals_per_image: float
    images: int


@dataclass
class MapSums:
    """Sums over the records of maps; those of an image follow one another.

    Attributes:
        names: of the classes.
        pixels: the confusion matrix, int64 [C, C].
        images: number of images with a map.
        coverage: summed over these.
        proposals: likewise; None as long as no record has any.
        last: the image of the last record.
    """

    names: Sequence[str]
    pixels: np.ndarray
    images: int = 0
    coverage: float = 0.0
    proposals: int | None = None
    last: str = ""

    @classmethod
    def of_classes(cls, classes: Mapping[str, Yaml] | None) -> "MapSums | None":
        """Empty sums for the classes of a protocol, by name; None if it has none, as the predictor makes no maps."""
        if classes is None:
            return None
        return cls(list(classes), np.zeros((len(classes), len(classes)), np.int64))

    def count(self, record: Record) -> None:
        """Count one record."""
        if "predicted_as" not in record:
            return
        number = self.names.index(record["category"])
        self.pixels[number] += record["predicted_as"]
        if "rest_as" in record:
            self.pixels[1 - number] += record["rest_as"]
        if record["image"] == self.last:
            return
        self.last = record["image"]
        self.images += 1
        if "coverage" in record and "proposals" in record:
            self.coverage += record["coverage"]
            self.proposals = (self.proposals or 0) + record["proposals"]

    def result(self) -> ConfusionResult:
        """The confusion matrix."""
        total = int(self.pixels.sum())
        return {
            "classes": list(self.names),
            "pixels": self.pixels.tolist(),
            "accuracy": int(np.trace(self.pixels)) / total if total else None,
            "images": self.images,
        }

    def coverage_result(self) -> CoverageResult | None:
        """The proposals; None if the maps have none."""
        if self.proposals is None:
            return None
        return {
            "mean": self.coverage / self.images,
            "proposals_per_image": self.proposals / self.images,
            "images": self.images,
        }
