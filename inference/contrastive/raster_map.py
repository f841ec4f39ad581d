"""The map of a GeoTIFF or JPEG 2000, made and written window by window: index masks, polygons, overlay and record."""

from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoclick import images
from geoclick.errors import GeoClickError
from geoclick.geo import class_regions, index_raster, writing
from geoclick.geo.class_regions import ClassPieces
from geoclick.geo.index_raster import IndexWriter
from geoclick.inference.contrastive import map_files
from geoclick.inference.contrastive.map_files import ClassRow, MapPipeline, Totals
from geoclick.inference.predictions import overlays, records
from geoclick.pages import class_drawing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geoclick.geo.views import RasterView
    from geoclick.inference.contrastive.classes import ClassList
    from geoclick.yaml_file import Yaml


@dataclass(eq=False)
class _Map:
    """What the windows of a map leave behind.

    Attributes:
        path: of the index mask as GeoTIFF.
        small: the labels at the size of the overlay, uint8 [h, w].
        totals: sums over the map.
        pieces: components of the windows.
    """

    path: Path
    small: np.ndarray
    totals: Totals = field(default_factory=Totals)
    pieces: ClassPieces = field(default_factory=ClassPieces)


def write(
    pipeline: MapPipeline, view: "RasterView", folder: Path, stem: str, about: "Mapping[str, Yaml]"
) -> str:
    """Make the map of a raster and write its files, the record last; returns a line about the map.

    Only the labels of one row of windows are in memory. The files are `STEM.mask.tif`, `STEM.overlay.png`,
    `STEM.mask.png` unless the raster is too large for Pillow, and `STEM.gpkg` and `STEM.geojson` if it has a place.

    Args:
        pipeline: makes the map.
        view: the open raster.
        folder: of the outputs.
        stem: of their names.
        about: what the record begins with.
    """
    classes = pipeline.classes
    found = _map(pipeline, view, folder / f"{stem}.mask.tif")
    vectors, polygons, notes = _write_polygons(found, view, folder, stem, classes)
    rows = found.totals.rows(classes)
    written = [found.path.name, f"{stem}.overlay.png"]
    _write_overlay(folder / written[1], found, view, rows, classes)
    if view.size[0] * view.size[1] <= images.MAX_PIXELS:
        written.append(f"{stem}.mask.png")
        map_files.write_mask(folder / written[-1], index_raster.read(found.path), classes)
    record: dict[str, Yaml] = {
        **about,
        "size": list(view.full_size),
        "mask_size": list(view.size),
        "crs": view.crs or None,
        "transform": None if view.transform is None else list(view.transform[:6]),
        "raster": found.path.name,
        "vectors": list(vectors),
        "polygons": polygons,
        **map_files.record_of(rows, found.totals, classes),
        "mask": written[-1] if len(written) > 2 else written[0],
        "files": [*written, *vectors],
    }
    records.write(folder, stem, record)
    if view.size != view.full_size:
        notes.insert(0, f"seen at {view.size[1]}x{view.size[0]} pixels")
    return "; ".join([map_files.shares(rows), *map_files.counts(found.totals), *notes])


def _map(pipeline: MapPipeline, view: "RasterView", path: Path) -> _Map:
    """Make the map and write its index mask."""
    classes = pipeline.classes
    shrink = max(1.0, max(view.size) / overlays.LONGEST)
    height, width = (max(1, round(side / shrink)) for side in view.size)
    found = _Map(path, np.zeros((height, width), np.uint8))
    # The pixels of the raster at the centers of those of the overlay.
    rows, columns = (
        ((np.arange(small) + 0.5) * side / small).astype(int)
        for small, side in zip(found.small.shape, view.size, strict=True)
    )
    writer = IndexWriter(
        path,
        view.size,
        view.crs,
        view.transform,
        colors=dict(enumerate(classes.colors)),
        tags={f"class_{number}": name for number, name in enumerate(classes.names)},
    )
    try:
        for top, row in groupby(pipeline.windows(view), key=lambda part: part.window.row):
            strip = np.zeros((0, 0), np.uint8)
            for window, prediction in row:
                if not strip.size:
                    strip = np.zeros((window.height, view.size[1]), np.uint8)
                strip[:, window.column : window.column + window.width] = prediction.labels
                found.totals.add(prediction)
                if view.transform is not None:
                    found.pieces.add(prediction.labels, prediction.confidence, window)
            inside = (rows >= top) & (rows < top + len(strip))
            found.small[inside] = strip[rows[inside] - top][:, columns]
            writer.write(strip)
    except BaseException as error:
        writer.abort(error)
        raise
    writer.close()
    return found


def _write_polygons(
    found: _Map, view: "RasterView", folder: Path, stem: str, classes: "ClassList"
) -> tuple[list[str], int, list[str]]:
    """Write the regions as GeoPackage and GeoJSON; returns the names of the files, the regions and notes."""
    if view.transform is None:
        return [], 0, [f"no polygons, since {view.problem}"]
    regions = class_regions.from_file(found.path, found.pieces, view.crs, view.transform)
    written, notes = [], [f"{len(regions)} polygons"]
    for name in (f"{stem}.gpkg", f"{stem}.geojson"):
        try:
            writing.write_polygons(folder / name, regions, classes.names, view.crs)
            written.append(name)
        except GeoClickError as error:
            notes.append(str(error))
    return written, len(regions), notes


def _write_overlay(
    path: Path, found: _Map, view: "RasterView", rows: list[ClassRow], classes: "ClassList"
) -> None:
    """Write the reduced raster, tinted by its classes, with a legend."""
    picture = view.overview(overlays.LONGEST)
    entries = map_files.legend(rows, found.totals.no_data)
    drawn = class_drawing.overlay(picture, found.small.astype(np.int32), classes.colors, entries)
    map_files.write_overlay(path, drawn)
