"""The parts of answers as objects, also where they touch each other or continue in another window.

- Parts of different windows are one object if they agree where the windows overlap: an IoU of 0.5 or more there. If no
  windows overlap, parts are one object if they share a border.
- A pixel of several objects belongs to the smallest of them, of equal ones to the earlier one.
- Components of the masks of windows with an answer of one part join the parts with which they agree in the same way.
- A connected region of the mask may hold pixels of no object. They belong to the one of the region with which they
  share the longest border.
- The pieces of an object in several regions are one multipolygon. An object that smaller ones cover has none.

Needs the extra `geo`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from geoclick.geo.tiles import Window
from geoclick.instances import Instance, of_mask

if TYPE_CHECKING:
    import shapely

AGREE = 0.5
"""Smallest IoU, where two windows overlap, of parts that are one object."""


@dataclass(frozen=True, eq=False)
class WindowPart:
    """A part of the answer about a window.

    Attributes:
        instance: in pixels of the complete raster, with at least one.
        window: its place in the raster.
        number: of the window.
        confidence: of the window's answer; None if unknown.
        of_several: whether the answer has several parts; if not, this is a component of its mask.
    """

    instance: Instance
    window: Window
    number: int
    confidence: float | None = None
    of_several: bool = True


def components(
    mask: np.ndarray, window: Window, number: int, score: float | None, confidence: float | None
) -> list[WindowPart]:
    """The components of the mask of a window whose answer has one part, bool [h, w]; other arguments as above."""
    from skimage import measure

    labels = measure.label(mask, background=0, connectivity=1)
    instances = [
        of_mask((), labels == i + 1, score=score).moved(window.row, window.column)
        for i in range(labels.max())
    ]
    return [WindowPart(one, window, number, confidence, of_several=False) for one in instances]


@dataclass(eq=False)
class PartObjects:
    """The objects of parts, which divide the regions of a mask among them.

    Attributes:
        shapes: disjoint polygons or multipolygons in pixels, object [N]; empty ones for objects that others cover.
        members: the parts of each.
        pieces: of the regions that were divided, for each object.
    """

    shapes: np.ndarray
    members: list[list[WindowPart]]
    pieces: "list[list[shapely.Polygon]]" = field(init=False)

    def __post_init__(self) -> None:
        import shapely

        self.pieces = [[] for _ in self.members]
        self._tree = shapely.STRtree(self.shapes)

    def divide(self, region: "shapely.Polygon") -> bool:
        """Divide a region of the mask, with corners of pixels as coordinates; False if it has no pixel of a part."""
        import shapely

        near = sorted(self._tree.query(region, predicate="intersects").tolist())
        own = {i: _area(shapely.intersection(self.shapes[i], region)) for i in near}
        own = {i: shape for i, shape in own.items() if shape.area}
        if not own:
            return False
        for i, shape in own.items():
            self.pieces[i] += polygons(shape)
        for rest in polygons(shapely.difference(region, shapely.union_all(list(own.values())))):
            borders = {i: shapely.intersection(rest.boundary, s.boundary).length for i, s in own.items()}
            self.pieces[max(borders, key=lambda i: (borders[i], -i))].append(rest)
        return True

    def found(self) -> "tuple[np.ndarray, dict[str, np.ndarray]]":
        """The objects that have pixels of divided regions: their shapes in pixels, and fields as in `Objects`."""
        import shapely

        kept = [i for i, pieces in enumerate(self.pieces) if pieces]
        shapes = np.array([shapely.union_all(self.pieces[i]) for i in kept], object)
        fields = [_fields(shape, self.members[i]) for shape, i in zip(shapes, kept, strict=True)]
        kinds = {"rows": int, "columns": int, "windows": int, "joined": int, "parts": int}
        names = ("rows", "columns", "scores", "confidences", "windows", "joined", "parts")
        return shapes, {
            name: np.array([one[name] for one in fields], np.int64 if name in kinds else np.float64)
            for name in names
        }


def _fields(shape: "shapely.Geometry", members: Sequence[WindowPart]) -> dict[str, float]:
    """The fields of an object: scores and confidences are weighted by the pixels of its parts."""
    import shapely

    corners = shapely.get_coordinates(shape)
    row = corners[:, 1].min()
    weights = np.array([one.instance.area for one in members], float)
    scores, confidences = (
        np.array([np.nan if value is None else value for value in values], float)
        for values in ([one.instance.score for one in members], [one.confidence for one in members])
    )
    pixels: dict[int, float] = {}
    for one, weight in zip(members, weights, strict=True):
        pixels[one.number] = pixels.get(one.number, 0.0) + weight
    return {
        "rows": row,
        "columns": corners[corners[:, 1] == row, 0].min(),
        "scores": float(np.average(scores, weights=weights)),
        "confidences": float(np.average(confidences, weights=weights)),
        "windows": max(pixels, key=lambda number: (pixels[number], -number)),
        "joined": len(pixels),
        "parts": len(members),
    }


def of_parts(parts: Sequence[WindowPart]) -> PartObjects | None:
    """The objects of all parts of a text; None without an answer of several."""
    import shapely

    if not any(one.of_several for one in parts):
        return None
    outlines = np.array([outline(one.instance) for one in parts], object)
    names = _joined(parts, outlines)
    several = np.array([one.of_several for one in parts])
    groups = [np.flatnonzero(names == name) for name in dict.fromkeys(names[several].tolist())]
    united = np.array([shapely.union_all(outlines[group]) for group in groups], object)
    return PartObjects(_disjoint(united), [[parts[i] for i in group.tolist()] for group in groups])


def outline(instance: Instance) -> "shapely.MultiPolygon":
    """The pixels of an instance, along their sides; the coordinates are corners of pixels."""
    import shapely
    from rasterio import Affine, features

    mask = instance.mask.astype(np.uint8)
    place = Affine.translation(instance.column, instance.row)
    found = features.shapes(mask, mask=instance.mask, connectivity=4, transform=place)
    return shapely.multipolygons([shapely.geometry.shape(geometry) for geometry, _ in found])


def _joined(parts: Sequence[WindowPart], outlines: np.ndarray) -> np.ndarray:
    """The group of each part, int [N]: that of the first part that it belongs to, through others or directly."""
    import shapely

    groups, touch = np.arange(len(parts)), not _overlap({one.window for one in parts})
    first, second = shapely.STRtree(outlines).query(outlines, predicate="intersects")
    for i, j in sorted(zip(first.tolist(), second.tolist(), strict=True)):
        if i >= j or parts[i].number == parts[j].number:
            continue
        if _agree(outlines[i], outlines[j], None if touch else (parts[i].window, parts[j].window)):
            low, high = sorted((groups[i], groups[j]))
            groups[groups == high] = low
    return groups


def _overlap(windows: set[Window]) -> bool:
    """Whether any two windows share pixels."""
    import shapely

    boxes = np.array([_box(window) for window in windows], object)
    pairs = shapely.STRtree(boxes).query(boxes, predicate="intersects").T
    return any(i < j and shapely.intersection(boxes[i], boxes[j]).area for i, j in pairs)


def _agree(one: "shapely.Geometry", other: "shapely.Geometry", windows: tuple[Window, Window] | None) -> bool:
    """Whether the outlines of parts of two windows are one object; None for windows without overlap."""
    import shapely

    if windows is None:
        return bool(shapely.intersection(one, other).length > 0)
    shared = shapely.intersection(*map(_box, windows))
    a, b = shapely.intersection(one, shared), shapely.intersection(other, shared)
    return bool(shapely.intersection(a, b).area >= AGREE * shapely.union(a, b).area > 0)


def _box(window: Window) -> "shapely.Polygon":
    import shapely

    row, column, height, width = window
    return shapely.box(column, row, column + width, row + height)


def _disjoint(shapes: np.ndarray) -> np.ndarray:
    """The shapes, object [N], without the pixels that smaller ones have."""
    import shapely

    tree, areas = shapely.STRtree(shapes), shapely.area(shapes)
    rank = np.empty(len(shapes), int)
    rank[np.lexsort((np.arange(len(shapes)), areas))] = np.arange(len(shapes))
    free = []
    for i, shape in enumerate(shapes):
        above = [j for j in tree.query(shape, predicate="intersects") if rank[j] < rank[i]]
        free.append(shapely.difference(shape, shapely.union_all(shapes[above])) if above else shape)
    return np.array(free, object)


def _area(shape: "shapely.Geometry") -> "shapely.MultiPolygon":
    """The polygons of a geometry, in one."""
    import shapely

    return shapely.MultiPolygon(polygons(shape))


def polygons(shape: "shapely.Geometry") -> "list[shapely.Polygon]":
    """The polygons of a geometry; its lines and points are left out."""
    import shapely

    return [one for one in shapely.get_parts(shape) if one.geom_type == "Polygon" and one.area]
