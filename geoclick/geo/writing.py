"""Writing polygons as GeoPackage and GeoJSON, and their areas on the ground.

The GeoPackage has the coordinate reference system of the image, GeoJSON longitude and latitude (RFC 7946). Needs the
extra `geo`.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geoclick import files
from geoclick.errors import GeoClickError, first_line

NO_DATA = 255
"""Value of pixels without data in an index mask."""

ERRORS = (RuntimeError, ValueError)
"""Errors of pyogrio besides its own."""

LAYER = "classes"
EQUAL_AREA = "EPSG:6933"
"""A cylindrical projection of the ellipsoid in which areas are true, in meters."""

SEGMENT = 32
"""Longest side in pixels of a polygon whose area is computed, since straight sides are curved in other projections."""

DECIMALS = 9
"""Of degrees in GeoJSON, 0.1 mm."""

MAX_CORNERS = 250_000
"""Corners of a polygon in GeoJSON; GDAL refuses to read objects that need 200 MB, about 300,000 corners."""


@dataclass(frozen=True, eq=False)
class ClassPolygons:
    """The regions of a map of classes.

    Attributes:
        shapes: shapely polygons in the coordinates of the image, object [N].
        labels: the class of each, int64 [N].
        pixels: the number of pixels of each, int64 [N].
        areas: on the ground in square meters, float64 [N]; NaN if the coordinates have no place on Earth.
        confidence: mean over the pixels of each, float64 [N].
    """

    shapes: np.ndarray
    labels: np.ndarray
    pixels: np.ndarray
    areas: np.ndarray
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def ground_areas(shapes: np.ndarray, crs: str, segment: float) -> np.ndarray:
    """The area of each polygon on the ellipsoid in square meters, float64 [N]; NaN where `crs` has no place on Earth.

    Args:
        shapes: shapely polygons, object [N].
        crs: of their coordinates.
        segment: longest straight side in units of `crs`; longer ones are divided.
    """
    import shapely
    from rasterio import warp

    if not len(shapes):
        return np.zeros(0)
    try:
        moved = shapely.transform(
            shapely.segmentize(shapes, segment),
            lambda xy: np.stack(warp.transform(crs, EQUAL_AREA, xy[:, 0], xy[:, 1]), axis=1),
        )
    except Exception:  # rasterio raises GDAL's errors as private classes
        return np.full(len(shapes), np.nan)
    areas: np.ndarray = shapely.area(moved)
    return np.where(np.isfinite(areas), areas, np.nan)


def write_polygons(path: Path, regions: ClassPolygons, names: Sequence[str], crs: str) -> None:
    """Write polygons with the fields `class`, `index`, `pixels`, `area_m2` (on the ground) and `confidence`.

    Args:
        path: ends with `.gpkg` or `.geojson`; an existing file is replaced.
        regions: the polygons.
        names: of all classes.
        crs: of the polygons.

    Raises:
        GeoClickError: the file cannot be written, or the coordinates have no longitude and latitude for GeoJSON.
    """
    fields = {
        "class": np.array([names[number] for number in regions.labels], object),
        "index": regions.labels,
        "pixels": regions.pixels,
        "area_m2": regions.areas,
        "confidence": regions.confidence,
    }
    write_layers(path, [Layer(LAYER, regions.shapes, fields)], crs)


class Layer(NamedTuple):
    """A layer of a vector file.

    Attributes:
        name: of the layer.
        shapes: shapely geometries of one type, object [N].
        fields: values by name, [N] each.
        geometry: the type.
    """

    name: str
    shapes: np.ndarray
    fields: dict[str, np.ndarray]
    geometry: str = "Polygon"


def polygon_layer(name: str, shapes: np.ndarray, fields: dict[str, np.ndarray]) -> Layer:
    """A layer of polygons; all of them are multipolygons if one of them is, since a layer has one type."""
    import shapely

    if not any(shape.geom_type == "MultiPolygon" for shape in shapes):
        return Layer(name, shapes, fields)
    several = [shapely.multipolygons(shapely.get_parts(shape)) for shape in shapes]
    return Layer(name, np.array(several, object), fields, "MultiPolygon")


def write_layers(path: Path, layers: Sequence[Layer], crs: str) -> None:
    """Write layers as GeoPackage, or a single one as GeoJSON; arguments and errors as in `write_polygons`.

    Raises OSError if the disk is full.
    """
    import pyogrio
    import shapely

    driver, layout = "GPKG", {}
    if path.suffix == ".geojson":
        driver, layout = "GeoJSON", {"RFC7946": "YES", "COORDINATE_PRECISION": str(DECIMALS)}
        _check_corners(path, layers)
    files.refuse_link(path)
    with files.whole(path) as partial, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GDAL warns of the suffix of the temporary name
        partial.unlink(missing_ok=True)
        try:
            for layer in layers:
                pyogrio.raw.write(
                    partial,
                    shapely.to_wkb(layer.shapes),
                    list(layer.fields.values()),
                    list(layer.fields),
                    crs=crs,
                    geometry_type=layer.geometry,
                    driver=driver,
                    layer=layer.name,
                    **layout,
                )
            counts = [
                pyogrio.read_info(partial, layer=layer.name, force_feature_count=True)["features"]
                for layer in layers
            ]
        except (*ERRORS, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
            if _has_degrees(crs, layers):
                raise files.incomplete(path) from error
            raise GeoClickError(
                f"{path} cannot be written ({first_line(error)}); fix the image's CRS."
            ) from error
        if counts != [len(layer.shapes) for layer in layers]:
            raise files.incomplete(path)


def _check_corners(path: Path, layers: Sequence[Layer]) -> None:
    """Raise GeoClickError, and remove an earlier file, if a polygon is too large to be read from GeoJSON again."""
    import shapely

    counts = [shapely.get_num_coordinates(layer.shapes).max(initial=0) for layer in layers]
    most = int(max(counts, default=0))
    if most > MAX_CORNERS:
        path.unlink(missing_ok=True)
        raise GeoClickError(
            f"{path.name} is not written, since a polygon has {most:,} corners, which GDAL does not read from GeoJSON; "
            "use the GeoPackage."
        )


def _has_degrees(crs: str, layers: Sequence[Layer]) -> bool:
    """Whether longitude and latitude of the first corner of the layers are defined."""
    import shapely
    from rasterio import warp

    for layer in layers:
        if len(layer.shapes):
            x, y = shapely.get_coordinates(layer.shapes[0])[0]
            try:
                return bool(np.isfinite(warp.transform(crs, "EPSG:4326", [x], [y])).all())
            except Exception:  # rasterio raises GDAL's errors as private classes
                return False
    return True
