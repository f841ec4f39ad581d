"""The objects of a mask: its connected components as simplified polygons, with area, score and windows.

Objects are joined across the windows of a raster, since they are components of the merged mask. Pixels belong together
if they share a side. Components with parts of an answer are divided among these, see part_objects.py. Outlines are
simplified one by one, so that those of touching parts may differ by the tolerance. Needs the extra `geo`.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick.geo import vectors, writing
from geoclick.geo.mask_raster import TARGET
from geoclick.geo.part_objects import PartObjects, WindowPart, of_parts
from geoclick.geo.tiles import Window
from geoclick.instances import Instance

if TYPE_CHECKING:
    import shapely
    from affine import Affine

AT_ONCE = 1024
"""Polygons whose outlines along the pixels are in memory at once."""


@dataclass
class Pieces:
    """The connected components of the masks of single windows, which are parts of objects.

    Attributes:
        points: (row, column) of the first pixel of each, in the complete raster.
        pixels: the number of pixels of each.
        windows: the number of the window of each.
        scores: of its window's mask; NaN if unknown.
        confidences: likewise.
    """

    points: list[np.ndarray] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)
    windows: list[np.ndarray] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)
    confidences: list[np.ndarray] = field(default_factory=list)

    def add(
        self,
        mask: np.ndarray,
        window: Window,
        number: int,
        score: float | None,
        confidence: float | None = None,
    ) -> None:
        """Add the components of the mask of a window, bool [H, W]."""
        if not mask.any():
            return
        from skimage import measure

        labels = measure.label(mask, background=0, connectivity=1).ravel()
        numbers, first, counts = np.unique(labels, return_index=True, return_counts=True)
        first, counts = first[numbers > 0], counts[numbers > 0]
        rows, columns = np.divmod(first, mask.shape[1])
        self.points.append(np.stack([rows + window.row, columns + window.column], axis=1))
        self.pixels.append(counts)
        self.windows.append(np.full(len(first), number))
        self.scores.append(np.full(len(first), np.nan if score is None else score))
        self.confidences.append(np.full(len(first), np.nan if confidence is None else confidence))


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a mask, in the order of their first pixels, row by row.

    Attributes:
        shapes: shapely polygons, or multipolygons of parts, simplified, in coordinates, object [N].
        pixels: number of pixels of each, int64 [N].
        areas: of the pixels on the ground in square meters, float64 [N]; NaN without a place on Earth.
        scores: mean of the scores of its windows, weighted by their pixels of it, float64 [N]; NaN if unknown.
        confidences: likewise of their confidences.
        windows: the window with most pixels of it, int64 [N].
        joined: number of windows with a part of it, int64 [N].
        parts: number of parts of answers that it consists of, int64 [N]; 0 for a component without any.
    """

    shapes: np.ndarray
    pixels: np.ndarray
    areas: np.ndarray
    scores: np.ndarray
    confidences: np.ndarray
    windows: np.ndarray
    joined: np.ndarray
    parts: np.ndarray

    def __len__(self) -> int:
        return len(self.shapes)


NONE = Objects(
    np.zeros(0, object),
    *(np.zeros(0, kind) for kind in (np.int64, *[np.float64] * 3, *[np.int64] * 3)),
)


def from_file(
    path: Path,
    pieces: Pieces,
    crs: str,
    transform: "Affine",
    tolerance: float,
    parts: Sequence[WindowPart] = (),
) -> Objects:
    """The objects of a mask in a file.

    Args:
        path: a GeoTIFF of MaskWriter.
        pieces: of all windows.
        crs: of the raster.
        transform: from its pixels to coordinates.
        tolerance: largest distance in pixels between the outline along the pixels and the simplified polygon.
        parts: of the windows whose answers have several.
    """
    outlines = _outlines(path)

    def batches() -> Iterator[np.ndarray]:
        while batch := list(itertools.islice(outlines, AT_ONCE)):
            # Back to the corners of pixels.
            yield _moved(np.array(batch, object), ~transform)

    return _objects(batches(), pieces, crs, transform, tolerance, of_parts(parts))


def from_mask(
    mask: np.ndarray,
    score: float | None,
    crs: str,
    transform: "Affine",
    tolerance: float,
    instances: Sequence[Instance] = (),
) -> Objects:
    """The objects of a mask, bool [H, W], of one window.

    Args:
        mask: the pixels.
        score: of all objects; None if unknown.
        crs: as in `from_file`; empty if the place is unknown.
        transform: likewise; the identity gives polygons in pixels.
        tolerance: likewise.
        instances: of an answer of several parts.
    """
    import shapely
    from rasterio import features

    pieces, window = Pieces(), Window(0, 0, *mask.shape)
    pieces.add(mask, window, 0, score)
    parts = of_parts([WindowPart(one, window, 0) for one in instances if one.area])
    outlines = [
        shapely.geometry.shape(geometry)
        for geometry, _ in features.shapes(mask.astype(np.uint8), mask=mask, connectivity=4)
    ]
    batches = [np.array(outlines, object)] if outlines else []
    return _objects(batches, pieces, crs, transform, tolerance, parts)


def _objects(
    batches: "Iterable[np.ndarray]",
    pieces: Pieces,
    crs: str,
    transform: "Affine",
    tolerance: float,
    parts: PartObjects | None,
) -> Objects:
    """The objects with outlines in pixels, arrays of shapely polygons; other arguments as in `from_file`."""
    import shapely

    points = np.concatenate([*pieces.points, np.zeros((0, 2), np.int64)])
    tree = shapely.STRtree(shapely.points(points[:, 1] + 0.5, points[:, 0] + 0.5))
    owners, done = np.full(len(points), -1), 0
    measured: list[tuple[np.ndarray, ...]] = []

    def measure(exact: np.ndarray) -> None:
        segment = writing.SEGMENT * abs(transform.determinant) ** 0.5
        # The first corner of a ring may move away twice, by the given distance each.
        simple = shapely.simplify(exact, tolerance / 2) if tolerance else exact
        areas = writing.ground_areas(_moved(exact, transform), crs, segment)
        measured.append((_moved(simple, transform), shapely.area(exact).round().astype(np.int64), areas))

    for batch in batches:
        # The corners of pixels are whole numbers.
        exact = shapely.transform(batch, np.round)
        if parts:
            exact = exact[[not parts.divide(region) for region in exact]]
        polygon, point = tree.query(exact, predicate="contains")
        owners[point] = polygon + done
        done += len(exact)
        measure(exact)
    fields = _joined(owners, pieces, done)
    if parts:
        exact, own = parts.found()
        measure(exact)
        fields = {name: np.concatenate([values, own[name]]) for name, values in fields.items()}
    order = np.lexsort((fields["columns"], fields["rows"]))
    empty = (np.zeros(0, object), np.zeros(0, np.int64), np.zeros(0))
    columns = [np.concatenate(column)[order] for column in zip(*measured, empty, strict=True)]
    names = ("scores", "confidences", "windows", "joined", "parts")
    return Objects(*columns, *(fields[name][order] for name in names))


def _outlines(path: Path) -> "Iterator[shapely.Polygon]":
    """The components of a mask as polygons along its pixels, in coordinates; the file is read line by line."""
    import rasterio
    import shapely
    from rasterio import features

    with rasterio.open(path, driver="GTiff") as raster:
        band = rasterio.band(raster, 1)
        for geometry, value in features.shapes(band, mask=band, connectivity=4):
            if value == TARGET:
                yield shapely.geometry.shape(geometry)


def _moved(shapes: np.ndarray, affine: "Affine") -> np.ndarray:
    """Shapely geometries, object [N], moved by an Affine."""
    import shapely

    moved: np.ndarray = shapely.transform(shapes, lambda xy: vectors.apply(affine, xy[:, 0], xy[:, 1]))
    return moved


def _joined(owners: np.ndarray, pieces: Pieces, count: int) -> dict[str, np.ndarray]:
    """What the pieces of each of `count` objects say about it.

    `owners` is the object of each piece, int [P]; -1 for those of regions that are divided among parts.
    """
    points = np.concatenate([*pieces.points, np.zeros((0, 2), np.int64)])
    pixels, windows, scores, confidences = (
        np.concatenate([*parts, np.zeros(0, kind)])
        for parts, kind in (
            (pieces.pixels, np.int64),
            (pieces.windows, np.int64),
            (pieces.scores, np.float64),
            (pieces.confidences, np.float64),
        )
    )
    owned = owners >= 0
    owners, points = owners[owned], points[owned]
    pixels, windows, scores, confidences = (
        values[owned] for values in (pixels, windows, scores, confidences)
    )
    sums = np.maximum(np.bincount(owners, pixels, count), 1)
    first = np.full((2, count), np.iinfo(np.int64).max)
    by_place = np.lexsort((points[:, 1], points[:, 0]))[::-1]
    first[:, owners[by_place]] = points[by_place].T
    # The pixels of each object in each window.
    both, inverse = np.unique(np.stack([owners, windows]), axis=1, return_inverse=True)
    shares = np.bincount(inverse.ravel(), pixels, both.shape[1])
    largest = np.zeros(count, np.int64)
    by_share = np.lexsort((-both[1], shares))
    largest[both[0, by_share]] = both[1, by_share]
    return {
        "rows": first[0],
        "columns": first[1],
        "scores": np.bincount(owners, pixels * scores, count) / sums,
        "confidences": np.bincount(owners, pixels * confidences, count) / sums,
        "windows": largest,
        "joined": np.bincount(both[0], minlength=count),
        "parts": np.zeros(count, np.int64),
    }
