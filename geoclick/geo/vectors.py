"""Reading GeoPackage and GeoJSON: labeled polygons, reprojected to the pixels of a raster and rasterized.

Polygons are reprojected corner by corner. A pixel belongs to a polygon if its center lies in it (GDAL's rule). Needs
pyogrio, rasterio and shapely, from the extra `geo`.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoclick.errors import GeoClickError, first_line
from geoclick.geo import tiles
from geoclick.geo.tiles import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

SUFFIXES = (".gpkg", ".geojson")
CLASS_FIELDS = ("class", "category", "label", "name")
"""The attributes that may hold the class, ignoring case; the first existing one is used."""

FIRST_BYTES = (b"SQLite format 3\0", b"{")
"""First bytes of the files. GDAL detects formats by content, and some refer to further files or addresses."""

BLOCK = 2048
"""Side in pixels of the blocks in which the area of a polygon is counted."""

MARGIN = 0.01
"""Share of a raster's extent that is added on each side to select polygons by their bounding boxes."""


@dataclass(frozen=True)
class Features:
    """The features of one file.

    Attributes:
        path: the file.
        crs: its coordinate reference system, as an authority code or WKT.
        ids: the number of each feature in the file, int64 [N].
        shapes: shapely geometries, object [N]; None for features without geometry.
        broken: bool [N], the geometries that cannot be read.
        classes: class of each feature, empty if it has none; None if the file has no such attribute.
    """

    path: Path
    crs: str
    ids: np.ndarray
    shapes: np.ndarray
    broken: np.ndarray
    classes: tuple[str, ...] | None


def read_features(path: Path) -> Features:
    """The features of a vector file with one layer.

    Raises:
        GeoClickError: it cannot be read, holds several layers, or has no coordinate reference system.
    """
    import pyogrio
    import shapely

    with path.open("rb") as file:
        begin = file.read(64)
    if not begin.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(FIRST_BYTES):
        raise GeoClickError(f"{path} is neither a GeoPackage nor GeoJSON by its content; replace it.")
    try:
        with warnings.catch_warnings():
            # GDAL warns of open rings and the like, which are repaired or reported as broken below.
            warnings.simplefilter("ignore")
            # Tables without geometry, such as the styles of QGIS, are ignored.
            layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
            if len(layers) != 1:
                raise GeoClickError(
                    f"{path} must hold one layer, not {', '.join(layers) or 'none'}; write a file with the labels only."
                )
            meta, ids, raw, fields = pyogrio.raw.read(path, layer=layers[0], return_fids=True, force_2d=True)
    # Fields of unusual types raise other errors than pyogrio's own.
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError, RuntimeError) as error:
        raise GeoClickError(
            f"{path} cannot be read as vectors ({first_line(error)}); replace the file."
        ) from error
    if not meta["crs"]:
        raise GeoClickError(
            f"{path} has no coordinate reference system; add it with 'ogr2ogr -a_srs EPSG:...'."
        )
    raw = np.full(len(ids), None) if raw is None else raw
    shapes = shapely.from_wkb(raw, on_invalid="ignore")
    broken = np.array([wkb is not None for wkb in raw], bool) & (shapes == None)  # noqa: E711 (by element)
    columns = {str(name).lower(): number for number, name in reversed(list(enumerate(meta["fields"])))}
    field = next((columns[name] for name in CLASS_FIELDS if name in columns), None)
    try:
        classes = None if field is None else tuple(map(_class_name, fields[field].tolist()))
    except GeoClickError as error:
        raise GeoClickError(f"{path}: {error}") from error
    return Features(path, meta["crs"], ids, shapes, broken, classes)


def _class_name(value: Any) -> str:
    """An attribute as the name of a class; empty if it is null."""
    # A list with one entry is its entry; pyogrio reads lists as arrays.
    if isinstance(value, list | tuple | np.ndarray):
        if len(value) > 1:
            raise GeoClickError(
                f"A feature has the classes {[str(v) for v in value[:5]]}; write one class for each feature."
            )
        value = value[0] if len(value) else None
    if value is None or value != value:
        return ""
    # Integers are read as floats if some features have none.
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def check_georeferenced(raster: "DatasetReader") -> None:
    """Raise GeoClickError unless a raster is georeferenced."""
    if raster.crs is None or not raster.transform.determinant:
        raise GeoClickError(
            f"{raster.name} is not georeferenced; fix it with 'rio edit-info --crs EPSG:... --transform ...'."
        )


def apply(affine: Any, x: Any, y: Any) -> np.ndarray:
    """Points with coordinates [N] and [N], transformed by an Affine, float64 [N, 2]."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return np.stack([affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f], axis=1)


def near(features: Features, raster: "DatasetReader") -> np.ndarray:
    """The features whose bounding boxes intersect a raster's extent, int64 [M], as indices of `features.shapes`.

    Distant features are excluded before they are reprojected, since the raster's projection may not be defined there.
    """
    import shapely
    from rasterio import warp

    x, y = np.array([(x, y) for x in (0, raster.width) for y in (0, raster.height)]).T
    corners = apply(raster.transform, x, y)
    try:
        box = warp.transform_bounds(
            raster.crs, features.crs, *corners.min(0), *corners.max(0), densify_pts=21
        )
    except Exception:  # rasterio raises private errors where the features' projection is not defined
        box = (-np.inf, -np.inf, np.inf, np.inf)
    left, bottom, right, top = box
    if left > right:  # across the 180th meridian
        left, right = -np.inf, np.inf
    bounds = shapely.bounds(features.shapes)
    dx, dy = MARGIN * (right - left), MARGIN * (top - bottom)
    if not np.isfinite([dx, dy]).all():
        dx = dy = 0
    intersects = (bounds[:, 0] <= right + dx) & (bounds[:, 2] >= left - dx)
    intersects &= (bounds[:, 1] <= top + dy) & (bounds[:, 3] >= bottom - dy)
    return np.flatnonzero(intersects)


def to_pixels(shapes: np.ndarray, crs: str, raster: "DatasetReader") -> np.ndarray:
    """Geometries in pixels of a raster: x is the column, y the row, (0, 0) the outer corner of the first pixel.

    Args:
        shapes: shapely geometries, object [N].
        crs: their coordinate reference system.
        raster: a georeferenced raster.

    Returns:
        Object [N]; None for geometries that the raster's coordinate reference system cannot represent.
    """
    import shapely
    from rasterio import warp

    inverse = ~raster.transform
    try:
        moved = shapely.transform(
            shapes, lambda xy: apply(inverse, *warp.transform(crs, raster.crs, xy[:, 0], xy[:, 1]))
        )
    except Exception:  # a single point is enough; rasterio raises GDAL's errors as private classes
        if len(shapes) == 1:
            return np.array([None])
        middle = len(shapes) // 2
        halves = shapes[:middle], shapes[middle:]
        return np.concatenate([to_pixels(half, crs, raster) for half in halves])
    moved[~np.isfinite(shapely.bounds(moved)).all(axis=1)] = None
    return moved


def box_of(shape: Any, size: tuple[int, int]) -> Window | None:
    """The window of a raster of `size` (height, width) that contains the pixels of a polygon; None if it has none."""
    import shapely

    left, top, right, bottom = shapely.bounds(shape)
    row, column = (max(int(np.ceil(low - 0.5)), 0) for low in (top, left))
    height, width = (
        min(int(np.floor(high - 0.5)) + 1, side) - first
        for high, side, first in ((bottom, size[0], row), (right, size[1], column))
    )
    return Window(row, column, height, width) if height > 0 and width > 0 else None


def rasterize(shape: Any, box: Window, window: Window) -> np.ndarray:
    """The pixels of a window whose centers lie in a polygon, bool [H, W].

    Args:
        shape: a Polygon or MultiPolygon in pixels of the raster, see `to_pixels`.
        box: the window that contains its pixels, see `box_of`.
        window: a window of the raster.
    """
    from affine import Affine
    from rasterio import features

    mask = np.zeros((window.height, window.width), bool)
    if part := tiles.overlap(box, window):
        pixels = features.rasterize(
            [(shape, 1)],
            out_shape=(part.height, part.width),
            transform=Affine.translation(part.column, part.row),
            dtype=np.uint8,
        )
        top, left = part.row - window.row, part.column - window.column
        mask[top : top + part.height, left : left + part.width] = pixels
    return mask


def area(shape: Any, box: Window) -> int:
    """The number of pixels of a polygon within the raster; arguments as in `rasterize`."""
    blocks = tiles.cut((box.height, box.width), BLOCK, 0)
    total = 0
    for tile in tiles.all_tiles(blocks):
        block = tiles.window(blocks, tile)
        block = block._replace(row=block.row + box.row, column=block.column + box.column)
        total += int(rasterize(shape, box, block)[tiles.exclusive(blocks, tile)].sum())
    return total
