"""The files of `geoclick predict --classes`: an index mask, an overlay with a legend and a record for each image."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from geoclick import files
from geoclick.errors import GeoClickError
from geoclick.geo.reading import PixelOptions, read_image
from geoclick.images import write_png
from geoclick.inference.contrastive.classes import ClassList
from geoclick.inference.contrastive.prediction import SemanticPrediction
from geoclick.pages import class_drawing
from geoclick.progress_bar import progress
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

    def describe(self) -> dict[str, Yaml]:
        """The models with their hashes and all settings, for records."""
        ...


def predict_all(
    pipeline: MapPipeline,
    named: Sequence[tuple[Path, str]],
    folder: Path,
    pixels: PixelOptions,
    query: str,
) -> dict[Path, str]:
    """Predict and write image by image.

    Args:
        pipeline: the models.
        named: the path of each image with the stem of its outputs.
        folder: of the outputs.
        pixels: how images are read.
        query: the class list as the user gave it.

    Returns:
        The error of each image that failed.
    """
    errors: dict[Path, str] = {}
    reading: dict[str, Yaml] = {"bands": list(pixels.bands), "stretch": list(pixels.stretch)}
    with progress("predict", len(named)) as bar:
        for path, stem in named:
            try:
                image = read_image(path, pixels=pixels)
                prediction = pipeline.predict(image)
            except GeoClickError as error:
                errors[path] = str(error)
                bar.print(f"{path}: failed, {error}")
            else:
                about: dict[str, Yaml] = {"query": query, "image": str(path), "size": list(image.shape[:2])}
                about |= pipeline.describe() | reading
                rows = write(folder, stem, image, prediction, pipeline.classes, about)
                bar.print(f"{path}: {shares(rows)}{_covered(prediction)}")
            bar.advance()
    return errors


def write(
    folder: Path,
    stem: str,
    image: np.ndarray,
    prediction: SemanticPrediction,
    classes: ClassList,
    about: dict[str, Yaml],
) -> list[tuple[str, float, float | None]]:
    """Write `STEM.mask.png`, `STEM.overlay.png` and, last, `STEM.json`; returns the rows of its classes.

    Args:
        folder: of the outputs.
        stem: of their names.
        image: uint8 [H, W, 3] RGB.
        prediction: of the image.
        classes: with their colors.
        about: what the record begins with.
    """
    rows = class_rows(classes, prediction)
    class_drawing.write_index_mask(folder / f"{stem}.mask.png", prediction.labels, classes.colors)
    entries = [(f"{name} {share:.1%}", number) for number, (name, share, _) in enumerate(rows)]
    drawn = class_drawing.overlay(image, prediction.labels, classes.colors, entries)
    write_png(folder / f"{stem}.overlay.png", drawn)
    listed: list[Yaml] = [
        {
            "index": number,
            "name": name,
            "synonyms": list(classes.synonyms[number][1:]),
            "color": list(classes.colors[number]),
            "share": share,
            "confidence": confidence,
        }
        for number, (name, share, confidence) in enumerate(rows)
    ]
    record = about | {
        "classes": listed,
        "coverage": None if prediction.coverage is None else round(prediction.coverage, 6),
        "proposals": prediction.proposals,
        "mask": f"{stem}.mask.png",
    }
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    files.write_whole(folder / f"{stem}.json", text)
    return rows


def class_rows(classes: ClassList, prediction: SemanticPrediction) -> list[tuple[str, float, float | None]]:
    """Name, share of the pixels and mean confidence of each class; no confidence without a pixel."""
    count = len(classes.names)
    flat = prediction.labels.reshape(-1)
    pixels = np.bincount(flat, minlength=count)
    sums = np.bincount(flat, prediction.confidence.reshape(-1), minlength=count)
    return [
        (name, round(float(n / flat.size), 6), round(float(total / n), 6) if n else None)
        for name, n, total in zip(classes.names, pixels, sums, strict=True)
    ]


def shares(rows: Sequence[tuple[str, float, float | None]]) -> str:
    """The classes in an image with their shares, the largest first."""
    present = sorted((row for row in rows if row[1]), key=lambda row: -row[1])
    return ", ".join(f"{name} {share:.1%}" for name, share, _ in present)


def _covered(prediction: SemanticPrediction) -> str:
    if prediction.coverage is None:
        return ""
    return f"; {prediction.proposals} proposals cover {prediction.coverage:.1%}"
