"""What the pipeline answers to a query: the prediction together with its image, as a picture and as polygons."""

import json
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from geoclick.errors import GeoClickError
from geoclick.geo import georeference, objects, rasters, writing
from geoclick.inference.generative.prediction import Prediction
from geoclick.pages import click_drawing
from geoclick.yaml_file import Yaml

TOLERANCE = 1.5
"""Largest distance in pixels between the outline of a mask along its pixels and its polygons."""

DEGREES = "longitude and latitude (WGS 84)"
PIXELS = "pixels: x to the right, y down, (0, 0) is the outer corner of the top left pixel"


class FeatureCollection(TypedDict):
    """GeoJSON (RFC 7946) with a member of our own.

    Attributes:
        type: `FeatureCollection`.
        coordinates_are: DEGREES, or PIXELS, which RFC 7946 does not allow.
        features: a polygon for each connected component, or for each part of an answer of several (see
            geoclick/geo/part_objects.py), with the properties `id`, `query`, `pixels`, `area_m2` (on the ground; null
            without a place on Earth), `score` (of the part), `confidence` (of the complete mask; null if unknown) and
            `parts` (1 for a part, 0 for a component).
    """

    type: str
    coordinates_are: str
    features: list[Yaml]


@dataclass(frozen=True, kw_only=True)
class Result(Prediction):
    """The answer to a query, with its image.

    Attributes:
        query: the user's text.
        image: uint8 [H, W, 3] RGB, as the models saw it.
        source: the file that it was read from; None if it was given as pixels.
    """

    query: str
    image: np.ndarray
    source: Path | None = None

    def overlay(self) -> Image.Image:
        """The image with the mask and the numbered clicks (green: positive, red: negative), and the query below it.

        The instances of an answer of several parts have colors, and their clicks the numbers of the parts. Images below
        512 pixels are enlarged to that side. The query is on a band below the image, so that the image begins at the
        top left pixel.
        """
        return Image.fromarray(
            click_drawing.overlay(
                self.image, self.mask, self.clicks, self.boxes, self.instances, query=self.query
            )
        )

    def to_geojson(self, tolerance: float = TOLERANCE) -> FeatureCollection:
        """The connected components of the mask as polygons, ready for `json.dump`.

        The coordinates are longitude and latitude if the image is a georeferenced GeoTIFF or JPEG 2000, else pixels;
        `coordinates_are` says which. The file is opened again for its georeference.

        Args:
            tolerance: largest distance in pixels between the outline along the pixels and the polygon; 0 is exact.

        Raises:
            GeoClickError: the extra `geo` is not installed, the file is gone, or its coordinates have no longitude and
                latitude.
        """
        rasters.check_installed()
        from affine import Affine

        if self.source and not self.source.is_file():
            raise GeoClickError(
                f"{self.source} does not exist any more, so that its place is unknown; restore it."
            )
        place = georeference.read(self.source) if self.source else None
        if place is None or place.transform is None:
            crs, transform = "", Affine.identity()
        else:
            crs, transform = place.crs, place.transform
        found = objects.from_mask(self.mask, self.score, crs, transform, tolerance, self.instances)
        fields = {
            "id": np.arange(1, len(found) + 1),
            "query": np.full(len(found), self.query, object),
            "pixels": found.pixels,
            "area_m2": found.areas,
            "score": found.scores,
            "confidence": np.full(len(found), np.nan if self.confidence is None else self.confidence),
            "parts": found.parts,
        }
        layer = writing.polygon_layer("objects", found.shapes, fields)
        features = _in_degrees(layer, crs) if crs else _in_pixels(layer)
        return {
            "type": "FeatureCollection",
            "coordinates_are": DEGREES if crs else PIXELS,
            "features": features,
        }


def of(prediction: Prediction, query: str, image: np.ndarray, source: Path | None) -> Result:
    """A prediction with its query and image."""
    values = {field.name: getattr(prediction, field.name) for field in fields(Prediction)}
    return Result(**values, query=query, image=image, source=source)


def _in_pixels(layer: writing.Layer) -> list[Yaml]:
    """The features of a layer in pixels."""
    import shapely

    columns = [values.tolist() for values in layer.fields.values()]
    return [
        {
            "type": "Feature",
            "properties": {
                name: None if value != value else value  # NaN
                for name, value in zip(layer.fields, values, strict=True)
            },
            "geometry": json.loads(shapely.to_geojson(shape)),
        }
        for shape, *values in zip(layer.shapes, *columns, strict=True)
    ]


def _in_degrees(layer: writing.Layer, crs: str) -> list[Yaml]:
    """The features of a layer in a coordinate reference system; GDAL cuts polygons at the antimeridian."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "objects.geojson"
        writing.write_layers(path, [layer], crs)
        features: list[Yaml] = json.loads(path.read_text(encoding="utf-8"))["features"]
    return features
