"""GeoTIFFs with vector labels: large rasters cut to tiles, one sample for each labeled polygon.

    ROOT/SPLIT/NAME.tif            any number of rasters
    ROOT/SPLIT/NAME.gpkg           labels of one raster, or NAME.geojson; for rasters without their own:
    ROOT/SPLIT/labels.gpkg         labels of all rasters, or labels.geojson, or either of them in ROOT

Labels are reprojected to the raster's coordinate reference system. The query is the class in lower case, from the first
existing attribute of `class`, `category`, `label` and `name`; if there is none, it is `--query`.

A raster is cut to overlapping tiles, see `--tile` and `--overlap`. An instance that fits into a tile is a sample of one
tile only: the one among those that contain it in which it is nearest the center. The overlap should therefore be the
size of a typical instance. A larger instance becomes a sample in each of the tiles that are needed to show all of it;
its mask there is the visible part, and pieces of less than `--min-area` pixels are left out. The pixels that tile
borders cut off are counted, and the visible share is reported. Polygons of a class in a tile ask the same question and
have different targets, so they contradict each other; with `--by-class`, a sample is a tile and a class that it shows,
and its target is all that the tile shows of the class.

Tiles are written as PNGs to `ROOT/SPLIT/.tiles` when a sample first needs them, and reused later; the folder's name
changes with the raster's size, its modification time and the display options. Pixels without data are not scored,
and an instance with no other pixels is left out and counted. Needs the extra `geo`.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoclick import masks
from geoclick.datasets import windows
from geoclick.datasets.color_masks import slug
from geoclick.datasets.reading import RASTER_TILE, LeftOut, OnLeftOut, ReadOptions, inside
from geoclick.datasets.sample import Sample
from geoclick.errors import GeoClickError, UsageError
from geoclick.geo import rasters, tiles, vectors
from geoclick.geo.tiles import Tile, Window
from geoclick.masks import Rle

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

NAME = "raster"
SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class Labels:
    """The features of a label file.

    Attributes:
        features: all features.
        usable: bool [N], the polygons with a class.
        seen: bool [N], the polygons that lie on a raster; filled while rasters are read.
    """

    features: vectors.Features
    usable: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True)
class Instance:
    """A polygon on a raster.

    Attributes:
        name: the raster's name with the feature's number, unique within the split.
        category: its class; empty if the labels have none.
        shape: shapely geometry in pixels of the raster.
        box: window that contains its pixels.
        tiles: the tiles that are needed to show it; a single one if that contains it.
        area: number of its pixels, if several tiles show it.
    """

    name: str
    category: str
    shape: Any
    box: Window
    tiles: list[Tile]
    area: int | None


def read(root: Path, split: str, options: ReadOptions, on_left_out: OnLeftOut) -> Iterator[Sample]:
    """The samples by raster, in the order of their names, by tile, row by row, and by feature, in file order.

    Raises GeoClickError if the extra `geo` is not installed.
    """
    windows.check(RASTER_TILE if options.tile is None else options.tile, options.overlap)
    low, high = options.stretch or (0, 100)
    if not 0 <= low < high <= 100:
        raise UsageError(f"The stretch must be two rising percentiles of 0 to 100, not {low:g} and {high:g}.")
    rasters.check_installed()
    folder = inside(root, split)
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    names = [name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    if not names:
        raise UsageError(f"{folder} holds no GeoTIFF (*.tif); name another --root or --split.")
    return _samples(root, split, names, options, on_left_out)


def _samples(
    root: Path, split: str, names: list[str], options: ReadOptions, on_left_out: OnLeftOut
) -> Iterator[Sample]:
    shared: dict[Path, Labels | None] = {}
    stems = set()
    for name in names:
        item, stem = f"{split}/{name}", Path(name).stem
        try:
            if stem in stems:
                raise GeoClickError(f"{item} shares its name with another raster; rename one of the two.")
            stems.add(stem)
            path = _labels_path(root, split, stem)
            own = path.stem == stem
            labels = shared[path] if path in shared else _labels(path, on_left_out)
            if not own:
                shared[path] = labels
            # None: a broken label file, which was reported when it was opened.
            if labels is not None:
                with rasters.open_raster(inside(root, item)) as raster:
                    yield from _of_raster(raster, root, split, stem, labels, options, on_left_out)
                if own:
                    _report_unseen(labels, on_left_out)
        except UsageError:
            raise
        except GeoClickError as error:
            on_left_out(LeftOut(item, "broken raster or labels", str(error)))
    for labels in shared.values():
        if labels is not None:
            _report_unseen(labels, on_left_out)


def _labels_path(root: Path, split: str, stem: str) -> Path:
    """The file with a raster's labels; raises GeoClickError if there is none."""
    for base in (f"{split}/{stem}", f"{split}/labels", "labels"):
        paths = [inside(root, base + suffix) for suffix in vectors.SUFFIXES]
        existing = [path for path in paths if path.is_file()]
        if len(existing) > 1:
            raise GeoClickError(
                f"{existing[0]} and {existing[1].name} are labels of the same rasters; remove one."
            )
        if existing:
            return existing[0]
    raise GeoClickError(
        f"{split}/{stem} has no labels; add {stem}.gpkg or {stem}.geojson next to it, or one labels.gpkg for all."
    )


def _labels(path: Path, on_left_out: OnLeftOut) -> Labels | None:
    """The labels in a file, or None if it is broken; features that cannot be targets are counted."""
    import shapely

    try:
        features = vectors.read_features(path)
    except GeoClickError as error:
        on_left_out(LeftOut(path.name, "broken labels", str(error)))
        return None
    for number in features.ids[features.broken]:
        failure = f"The geometry of feature {number} in {path} is broken; fix it with 'ogr2ogr -makevalid'."
        on_left_out(LeftOut(f"{path.name} feature {number}", "broken geometry", failure))
    features = replace(features, shapes=_polygons_of_collections(features.shapes))
    empty = shapely.is_missing(features.shapes) | shapely.is_empty(features.shapes)
    kinds = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
    polygonal = np.isin(shapely.get_type_id(features.shapes), kinds)
    named = np.ones(len(empty), bool)
    if features.classes is not None:
        named[:] = [bool(name) for name in features.classes]
    for reason, concerned in (
        ("no geometry", empty & ~features.broken),
        ("no polygon", ~empty & ~polygonal),
        ("no class", ~empty & polygonal & ~named),
    ):
        if concerned.any():
            on_left_out(LeftOut(path.name, reason, count=int(concerned.sum())))
    usable = ~empty & polygonal & named
    return Labels(features, usable, np.zeros_like(usable))


def _polygons_of_collections(shapes: np.ndarray) -> np.ndarray:
    """Geometries, object [N], in which a collection that holds polygons is replaced by their union."""
    import shapely

    shapes = shapes.copy()
    for number in np.flatnonzero(shapely.get_type_id(shapes) == shapely.GeometryType.GEOMETRYCOLLECTION):
        parts = [shapes[number]]
        while any(part.geom_type == "GeometryCollection" for part in parts):
            parts = [inner for part in parts for inner in getattr(part, "geoms", [part])]
        polygons = [part for part in parts if part.geom_type in ("Polygon", "MultiPolygon")]
        if polygons:
            shapes[number] = shapely.union_all(polygons)
    return shapes


def _report_unseen(labels: Labels, on_left_out: OnLeftOut) -> None:
    """Report the polygons that lie on no raster."""
    if missed := int((labels.usable & ~labels.seen).sum()):
        on_left_out(LeftOut(labels.features.path.name, "outside every raster", count=missed))


def _of_raster(
    raster: "DatasetReader",
    root: Path,
    split: str,
    stem: str,
    labels: Labels,
    options: ReadOptions,
    on_left_out: OnLeftOut,
) -> Iterator[Sample]:
    """The samples of one raster, tile by tile."""
    vectors.check_georeferenced(raster)
    bands = rasters.choose_bands(raster, options.bands)
    folder = inside(root, f"{split}/{tiles.FOLDER}/{stem}-{_key(raster, bands, options)}")
    grid = tiles.cut(raster.shape, options.tile or RASTER_TILE, options.overlap)
    by_tile: dict[Tile, list[Instance]] = defaultdict(list)
    for instance in _instances(raster, stem, labels, grid, on_left_out, by_class=options.by_class):
        for tile in instance.tiles:
            by_tile[tile].append(instance)
    limits = None
    for tile in sorted(by_tile):
        window = tiles.window(grid, tile)
        if options.by_class:
            visible = list(_of_classes(stem, by_tile[tile], window))
        else:
            pieces = (_piece(instance, window, options, on_left_out) for instance in by_tile[tile])
            visible = [piece for piece in pieces if piece is not None]
        if not visible:
            continue
        path = folder / windows.name_of(window)
        image = path.relative_to(root.resolve()).as_posix()
        try:
            valid = rasters.read_valid(raster, window, bands)
            if not path.is_file():
                if limits is None:
                    limits = rasters.stretch_limits(raster, bands, options.stretch)
                windows.write_tile(path, rasters.read_window(raster, window, bands, limits, valid))
        except GeoClickError as error:
            on_left_out(LeftOut(image, "broken image", str(error), len(visible)))
            continue
        valid_rle = None if valid is None else masks.encode_rle(valid)
        for name, category, rle in visible:
            if valid is not None and not (masks.decode_rle(rle) & valid).any():
                on_left_out(LeftOut(name, "only pixels without data"))
                continue
            yield Sample(
                sample_id=name,
                dataset=NAME,
                split=split,
                task="semantic",
                query=category.lower() or options.query,
                root=root,
                image=image,
                size=(window.height, window.width),
                rle=rle,
                valid_rle=valid_rle,
                category=category,
            )


def _of_classes(stem: str, instances: list[Instance], window: Window) -> Iterator[tuple[str, str, Rle]]:
    """The id, the name and the RLE of each class in a tile, in the order in which the classes first appear."""
    shown: dict[str, np.ndarray] = {}
    for instance in instances:
        mask = vectors.rasterize(instance.shape, instance.box, window)
        if instance.category in shown:
            shown[instance.category] |= mask
        else:
            shown[instance.category] = mask
    for category, mask in shown.items():
        if mask.any():
            name = f"{stem}/{slug(category) or 'target'}-r{window.row}c{window.column}"
            yield name, category, masks.encode_rle(mask)


def _piece(
    instance: Instance, window: Window, options: ReadOptions, on_left_out: OnLeftOut
) -> tuple[str, str, Rle] | None:
    """The id, the class and the RLE of an instance in a tile, or None if no piece of it is large enough."""
    mask = vectors.rasterize(instance.shape, instance.box, window)
    pixels = int(mask.sum())
    if instance.area is None:
        if pixels:
            return instance.name, instance.category, masks.encode_rle(mask)
        on_left_out(LeftOut(instance.name, "no pixel's center in it"))
        return None
    name = f"{instance.name}-r{window.row}c{window.column}"
    if pixels < max(options.min_area, 1):
        if pixels:
            on_left_out(LeftOut(name, "piece smaller than min_area"))
        return None
    if pixels < instance.area:
        item = f"{name}, {pixels / instance.area:.1%} visible"
        on_left_out(LeftOut(item, "pixels cut off by a tile's border", count=instance.area - pixels))
    return name, instance.category, masks.encode_rle(mask)


def _instances(
    raster: "DatasetReader",
    stem: str,
    labels: Labels,
    grid: tiles.Grid,
    on_left_out: OnLeftOut,
    *,
    by_class: bool,
) -> Iterator[Instance]:
    """The polygons on a raster, with the tiles that show them, by class all of these; fills `labels.seen`."""
    import shapely

    features = labels.features
    numbers = vectors.near(features, raster)
    numbers = numbers[labels.usable[numbers]]
    shapes = vectors.to_pixels(features.shapes[numbers], features.crs, raster)
    for number, shape in zip(numbers, shapes, strict=True):
        name = f"{stem}-{features.ids[number]}"
        if shape is None:
            labels.seen[number] = True
            error = (
                f"Feature {features.ids[number]} of {features.path} has no place in the coordinates of "
                f"{raster.name}; fix its geometry."
            )
            on_left_out(LeftOut(name, "broken geometry", error))
            continue
        left, top, right, bottom = shapely.bounds(shape)
        if right <= 0 or bottom <= 0 or left >= raster.width or top >= raster.height:
            continue
        labels.seen[number] = True
        box = vectors.box_of(shape, raster.shape)
        if box is None:
            on_left_out(LeftOut(name, "no pixel's center in it"))
            continue
        shown = tiles.touching(grid, box) if by_class else tiles.showing(grid, box)
        category = "" if features.classes is None else features.classes[number]
        area = vectors.area(shape, box) if len(shown) > 1 and not by_class else None
        yield Instance(name, category, shape, box, shown, area)


def _key(raster: "DatasetReader", bands: tuple[int, ...], options: ReadOptions) -> str:
    """A digest of everything that the pixels of a raster's tiles depend on, 12 hexadecimal digits."""
    facts = Path(raster.name).stat()
    content = [facts.st_size, facts.st_mtime_ns, bands, options.stretch]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
