"""The regions of a map of classes in a file: its connected components as polygons along the edges of pixels.

Regions are joined across the windows of a raster, since they are components of the complete map. Pixels belong together
if they share a side. Needs the extra `geo`.
"""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick.geo import vectors, writing
from geoclick.geo.tiles import Window
from geoclick.geo.writing import NO_DATA, ClassPolygons

if TYPE_CHECKING:
    from collections.abc import Iterator

    import shapely
    from affine import Affine

AT_ONCE = 1024
"""Polygons that are in memory at once before their areas are known."""


@dataclass
class ClassPieces:
    """The connected components of the maps of windows, which are parts of regions.

    Attributes:
        points: (row, column) of the first pixel of each, in the complete raster.
        confidence: sum over the pixels of each.
    """

    points: list[np.ndarray] = field(default_factory=list)
    confidence: list[np.ndarray] = field(default_factory=list)

    def add(self, labels: np.ndarray, confidence: np.ndarray, window: Window) -> None:
        """Add the components of a window.

        Args:
            labels: the class of each pixel, int [H, W]; NO_DATA belongs to no region.
            confidence: of each pixel, float [H, W].
            window: the window, which overlaps no other one.
        """
        from skimage import measure

        own = measure.label(np.where(labels == NO_DATA, 0, labels + 1), background=0, connectivity=1).ravel()
        numbers, first = np.unique(own, return_index=True)
        sums = np.bincount(own, confidence.ravel(), own.max(initial=0) + 1)
        first, sums = first[numbers > 0], sums[numbers[numbers > 0]]
        rows, columns = np.divmod(first, labels.shape[1])
        self.points.append(np.stack([rows + window.row, columns + window.column], axis=1))
        self.confidence.append(sums)


def from_file(path: Path, pieces: ClassPieces, crs: str, transform: "Affine") -> ClassPolygons:
    """The regions of a map, in the order of their first pixels, row by row.

    Args:
        path: a GeoTIFF of IndexWriter.
        pieces: of windows that cover the map without overlap.
        crs: coordinate reference system, see Georeference.
        transform: from pixels to coordinates.
    """
    import shapely

    points = np.concatenate([*pieces.points, np.zeros((0, 2), np.int64)])
    tree = shapely.STRtree(shapely.points(points[:, 1] + 0.5, points[:, 0] + 0.5))
    owners = np.full(len(points), -1)
    parts: list[tuple[np.ndarray, ...]] = []
    segment = writing.SEGMENT * abs(transform.determinant) ** 0.5
    outlines, done = _outlines(path), 0
    while batch := list(itertools.islice(outlines, AT_ONCE)):
        # Back to the corners of pixels, which are whole numbers.
        exact = shapely.transform(_moved(np.array([one for one, _ in batch], object), ~transform), np.round)
        polygon, point = tree.query(exact, predicate="contains")
        owners[point] = polygon + done
        done += len(batch)
        shapes = _moved(exact, transform)
        labels = np.array([label for _, label in batch], np.int64)
        pixels = shapely.area(exact).round().astype(np.int64)
        parts.append((shapes, labels, pixels, writing.ground_areas(shapes, crs, segment)))
    kinds = (object, np.int64, np.int64, np.float64)
    shapes, labels, pixels, areas = (
        np.concatenate([*(part[number] for part in parts), np.zeros(0, kind)])
        for number, kind in enumerate(kinds)
    )
    sums = np.bincount(owners, np.concatenate([*pieces.confidence, np.zeros(0)]), done)
    order = _by_first_pixel(points, owners, done)
    confidence = sums / np.maximum(pixels, 1)
    return ClassPolygons(shapes[order], labels[order], pixels[order], areas[order], confidence[order])


def _by_first_pixel(points: np.ndarray, owners: np.ndarray, count: int) -> np.ndarray:
    """The order of regions by the first of their pieces; `owners` is the region of each piece, int [P]."""
    first = np.full((2, count), np.iinfo(np.int64).max)
    by_place = np.lexsort((points[:, 1], points[:, 0]))[::-1]
    first[:, owners[by_place]] = points[by_place].T
    order: np.ndarray = np.lexsort((first[1], first[0]))
    return order


def _outlines(path: Path) -> "Iterator[tuple[shapely.Polygon, int]]":
    """The regions of a map as polygons in coordinates, with their classes; the file is read line by line."""
    import rasterio
    import shapely
    from rasterio import features

    with rasterio.open(path, driver="GTiff") as raster:
        for geometry, value in features.shapes(rasterio.band(raster, 1), connectivity=4):
            if value != NO_DATA:
                yield shapely.geometry.shape(geometry), int(value)


def _moved(shapes: np.ndarray, affine: "Affine") -> np.ndarray:
    """Shapely geometries, object [N], moved by an Affine."""
    import shapely

    moved: np.ndarray = shapely.transform(shapes, lambda xy: vectors.apply(affine, xy[:, 0], xy[:, 1]))
    return moved
