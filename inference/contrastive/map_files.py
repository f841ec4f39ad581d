"""The files of `geoclick predict --classes`: an index mask, an overlay with a legend and a record for each image.

For a georeferenced GeoTIFF or JPEG 2000 also the index mask as GeoTIFF, and the regions as polygons in a GeoPackage and
GeoJSON. Their pixels without data have no class.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from geoclick import devices, files
from geoclick.errors import GeoClickError
from geoclick.geo import georeference, writing
from geoclick.geo.georeference import Georeference
from geoclick.geo.reading import PixelOptions, read_image
from geoclick.geo.writing import NO_DATA
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
                place = georeference.read(path, pixels.bands)
                with devices.enough_memory(f"an image of {image.shape[1]}x{image.shape[0]} pixels"):
                    prediction = with_no_data(pipeline.predict(image), place)
            except GeoClickError as error:
                errors[path] = str(error)
                bar.print(f"{path}: failed, {error}")
            else:
                about: dict[str, Yaml] = {"query": query, "image": str(path), "size": list(image.shape[:2])}
                about |= pipeline.describe() | reading
                located, notes = write_located(folder, stem, prediction, pipeline.classes, place)
                rows = write(folder, stem, image, prediction, pipeline.classes, about | located)
                bar.print(f"{path}: " + "; ".join([shares(rows), *_counts(prediction), *notes]))
            bar.advance()
    return errors


def with_no_data(prediction: SemanticPrediction, place: Georeference | None) -> SemanticPrediction:
    """The prediction with the label NO_DATA where an image has no data."""
    if place is None or place.valid is None:
        return prediction
    return replace(prediction, labels=np.where(place.valid, prediction.labels, NO_DATA).astype(np.int32))


def write_located(
    folder: Path, stem: str, prediction: SemanticPrediction, classes: ClassList, place: Georeference | None
) -> tuple[dict[str, Yaml], list[str]]:
    """Write `STEM.mask.tif`, `STEM.gpkg` and `STEM.geojson` of a georeferenced image.

    Args:
        folder: of the outputs.
        stem: of their names.
        prediction: of the image.
        classes: with their colors.
        place: of the image; None if its format has none.

    Returns:
        What the record says about them, and notes for the user.
    """
    if place is None:
        return {}, []
    if place.transform is None:
        return {"crs": None}, [f"no polygons, since {place.problem}"]
    raster = folder / f"{stem}.mask.tif"
    writing.write_index_raster(raster, prediction.labels, classes.names, classes.colors, place)
    regions = writing.polygons(prediction.labels, prediction.confidence, place.crs, place.transform)
    written: list[Yaml] = []
    notes = [f"{len(regions)} polygons"]
    for name in (f"{stem}.gpkg", f"{stem}.geojson"):
        try:
            writing.write_polygons(folder / name, regions, classes.names, place.crs)
            written.append(name)
        except GeoClickError as error:
            notes.append(str(error))
    transform: list[Yaml] = list(place.transform[:6])
    record: dict[str, Yaml] = {"crs": place.crs, "transform": transform, "raster": raster.name}
    return record | {"vectors": written, "polygons": len(regions)}, notes


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
    missing = no_data(prediction)
    if missing:
        entries.append((f"no data {missing:.1%}", NO_DATA))
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
        "no_data": round(missing, 6),
        "mask": f"{stem}.mask.png",
    }
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    files.write_whole(folder / f"{stem}.json", text)
    return rows


def class_rows(classes: ClassList, prediction: SemanticPrediction) -> list[tuple[str, float, float | None]]:
    """Name, share of the pixels with data, and mean confidence of each class; no confidence without a pixel."""
    flat = prediction.labels.reshape(-1)
    pixels = np.bincount(flat, minlength=NO_DATA + 1)
    sums = np.bincount(flat, prediction.confidence.reshape(-1), minlength=NO_DATA + 1)
    total = max(1, flat.size - int(pixels[NO_DATA]))
    return [
        (
            name,
            round(float(pixels[n] / total), 6),
            round(float(sums[n] / pixels[n]), 6) if pixels[n] else None,
        )
        for n, name in enumerate(classes.names)
    ]


def no_data(prediction: SemanticPrediction) -> float:
    """The share of pixels without data."""
    return float((prediction.labels == NO_DATA).mean())


def shares(rows: Sequence[tuple[str, float, float | None]]) -> str:
    """The classes in an image with their shares, the largest first."""
    present = sorted((row for row in rows if row[1]), key=lambda row: -row[1])
    return ", ".join(f"{name} {share:.1%}" for name, share, _ in present) or "no class"


def _counts(prediction: SemanticPrediction) -> list[str]:
    """The pixels without data and the coverage of proposals, in words."""
    words = []
    if missing := no_data(prediction):
        words.append(f"{missing:.1%} of the pixels have no data")
    if prediction.coverage is not None:
        words.append(f"{prediction.proposals} proposals cover {prediction.coverage:.1%}")
    return words
