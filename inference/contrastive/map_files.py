"""The files of `geoclick predict --classes`: an index mask, an overlay with a legend and a record for each image.

Those of a GeoTIFF or JPEG 2000 are written by raster_map.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from geoclick import files
from geoclick.geo.georeference import Georeference
from geoclick.geo.writing import NO_DATA
from geoclick.images import write_png
from geoclick.inference.contrastive.classes import ClassList
from geoclick.inference.contrastive.prediction import SemanticPrediction
from geoclick.inference.contrastive.windowed import Source, WindowMap
from geoclick.inference.predictions import records
from geoclick.pages import class_drawing
from geoclick.yaml_file import Yaml


class MapPipeline(Protocol):
    """Models that make a map of classes."""

    @property
    def classes(self) -> ClassList:
        """The class list, with a background if it names one class."""
        ...

    def predict(self, image: np.ndarray) -> SemanticPrediction:
        """The classes of an image, uint8 [H, W, 3]."""
        ...

    def windows(self, source: Source) -> Iterator[WindowMap]:
        """The classes of a large image window by window, row by row."""
        ...

    def describe(self) -> dict[str, Yaml]:
        """The models with their hashes and all settings, for records."""
        ...


class ClassRow(NamedTuple):
    """What is known of a class in an image.

    Attributes:
        name: of the class.
        share: of the pixels with data.
        confidence: mean over its pixels; None without a pixel.
    """

    name: str
    share: float
    confidence: float | None


@dataclass
class Totals:
    """Sums over the map of an image, which may come in windows.

    Attributes:
        pixels: of each label, int64 [256].
        confidence: sum of each label, float64 [256].
        covered: pixels in at least one proposal; None without proposals.
        proposals: their number; None without proposals.
    """

    pixels: np.ndarray = field(default_factory=lambda: np.zeros(NO_DATA + 1, np.int64))
    confidence: np.ndarray = field(default_factory=lambda: np.zeros(NO_DATA + 1))
    covered: int | None = None
    proposals: int | None = None

    def add(self, prediction: SemanticPrediction) -> None:
        """Add the map of a window or of a complete image."""
        flat = prediction.labels.reshape(-1)
        self.pixels += np.bincount(flat, minlength=NO_DATA + 1)
        self.confidence += np.bincount(flat, prediction.confidence.reshape(-1), NO_DATA + 1)
        if prediction.coverage is not None and prediction.proposals is not None:
            self.covered = (self.covered or 0) + round(prediction.coverage * flat.size)
            self.proposals = (self.proposals or 0) + prediction.proposals

    @property
    def coverage(self) -> float | None:
        """The share of the pixels in at least one proposal."""
        return None if self.covered is None else self.covered / max(1, int(self.pixels.sum()))

    @property
    def no_data(self) -> float:
        """The share of pixels without data."""
        return float(self.pixels[NO_DATA] / max(1, self.pixels.sum()))

    def rows(self, classes: ClassList) -> list[ClassRow]:
        """The classes of a list, in its order."""
        total = max(1, int(self.pixels.sum() - self.pixels[NO_DATA]))
        return [
            ClassRow(
                name,
                round(float(self.pixels[n] / total), 6),
                round(float(self.confidence[n] / self.pixels[n]), 6) if self.pixels[n] else None,
            )
            for n, name in enumerate(classes.names)
        ]


def write(
    folder: Path,
    stem: str,
    image: np.ndarray,
    prediction: SemanticPrediction,
    classes: ClassList,
    about: Mapping[str, Yaml],
    place: Georeference | None,
) -> str:
    """Write `STEM.mask.png`, `STEM.overlay.png` and, last, `STEM.json`; returns a line about the map.

    Args:
        folder: of the outputs.
        stem: of their names.
        image: uint8 [H, W, 3] RGB.
        prediction: of the image.
        classes: with their colors.
        about: what the record begins with.
        place: of a TIFF that is not read by windows; it has a problem.
    """
    located: dict[str, Yaml] = {}
    notes = []
    if place is not None:
        if place.valid is not None:
            prediction = with_no_data(prediction, place.valid)
        located = {"crs": None}
        notes = [f"no polygons, since {place.problem}"]
    totals = Totals()
    totals.add(prediction)
    rows = totals.rows(classes)
    names = [f"{stem}.mask.png", f"{stem}.overlay.png"]
    write_mask(folder / names[0], prediction.labels, classes)
    drawn = class_drawing.overlay(image, prediction.labels, classes.colors, legend(rows, totals.no_data))
    write_overlay(folder / names[1], drawn)
    about = {**about, "size": list(image.shape[:2])} | located
    record = about | record_of(rows, totals, classes) | {"mask": names[0], "files": list(names)}
    records.write(folder, stem, record)
    return "; ".join([shares(rows), *counts(totals), *notes])


def with_no_data(prediction: SemanticPrediction, valid: np.ndarray) -> SemanticPrediction:
    """The prediction with the label NO_DATA where an image has no data; `valid` is bool [H, W]."""
    labels = np.where(valid, prediction.labels, NO_DATA).astype(np.int32)
    return SemanticPrediction(labels, prediction.confidence, prediction.coverage, prediction.proposals)


def write_mask(path: Path, labels: np.ndarray, classes: ClassList) -> None:
    """Write an index mask, int [H, W], as a PNG, which gets its name when it is complete."""
    files.refuse_link(path)
    with files.whole(path) as partial:
        class_drawing.write_index_mask(partial, labels, classes.colors)


def write_overlay(path: Path, drawn: np.ndarray) -> None:
    """Write an overlay, uint8 [H, W, 3], as a PNG, which gets its name when it is complete."""
    files.refuse_link(path)
    with files.whole(path) as partial:
        write_png(partial, drawn)


def record_of(rows: Sequence[ClassRow], totals: Totals, classes: ClassList) -> dict[str, Yaml]:
    """What the record of every map says about its classes."""
    listed: list[Yaml] = [
        {
            "index": number,
            "name": row.name,
            "synonyms": list(classes.synonyms[number][1:]),
            "color": list(classes.colors[number]),
            "share": row.share,
            "confidence": row.confidence,
        }
        for number, row in enumerate(rows)
    ]
    return {
        "classes": listed,
        "coverage": None if totals.coverage is None else round(totals.coverage, 6),
        "proposals": totals.proposals,
        "no_data": round(totals.no_data, 6),
    }


def legend(rows: Sequence[ClassRow], no_data: float) -> list[tuple[str, int]]:
    """The text and the class of each entry of a legend."""
    entries = [(f"{row.name} {row.share:.1%}", number) for number, row in enumerate(rows)]
    return [*entries, (f"no data {no_data:.1%}", NO_DATA)] if no_data else entries


def shares(rows: Sequence[ClassRow]) -> str:
    """The classes in an image with their shares, the largest first."""
    present = sorted((row for row in rows if row.share), key=lambda row: -row.share)
    return ", ".join(f"{row.name} {row.share:.1%}" for row in present) or "no class"


def counts(totals: Totals) -> list[str]:
    """The pixels without data and the coverage of proposals, in words."""
    words = []
    if totals.no_data:
        words.append(f"{totals.no_data:.1%} of the pixels have no data")
    if totals.coverage is not None:
        words.append(f"{totals.proposals} proposals cover {totals.coverage:.1%}")
    return words
