"""The files of a session: mask, overlay and record of the chosen layer, and the objects of all layers as vectors."""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeGuard

import numpy as np

from geoclick.errors import GeoClickError
from geoclick.geo import class_regions, objects, vectors, writing
from geoclick.geo.class_regions import ClassPieces
from geoclick.geo.georeference import Georeference
from geoclick.geo.index_raster import Color, IndexWriter
from geoclick.geo.mask_raster import COLORS, TARGET
from geoclick.geo.tiles import Window
from geoclick.geo.writing import NO_DATA, Layer
from geoclick.images import write_png
from geoclick.inference.app import editing, pictures
from geoclick.inference.app.session import ClassMap, Session
from geoclick.inference.app.session import Layer as AnswerLayer
from geoclick.inference.contrastive import map_files
from geoclick.inference.predictions import raster_job, records
from geoclick.inference.result import TOLERANCE
from geoclick.pages import class_drawing
from geoclick.yaml_file import Yaml


def write(session: Session, about: Mapping[str, Yaml]) -> tuple[list[Path], list[str]]:
    """Write the files; returns their paths, and notes about what is left out.

    The folder is removed with the session, and with the next call.
    """
    with session.lock:
        layers, chosen = list(session.layers), session.layer if session.layers else None
    if chosen is None and session.class_map is None:
        raise GeoClickError("There is nothing to download yet; ask a query first.")
    session.drop_downloads()
    session.downloads = tempfile.TemporaryDirectory(prefix="geoclick-app-")
    folder, stem = Path(session.downloads.name), _stem(session.opened.name)
    written, notes = [], list[str]()
    if chosen is not None:
        written += _of_layer(folder, stem, session, chosen, about)
    if session.class_map is not None:
        written += _of_map(folder, stem, session, session.class_map)
    place = session.opened.place
    if place is None or place.transform is None:
        notes.append(f"no polygons, since {place.problem if place else 'it is not georeferenced'}")
    elif layers:
        path = folder / f"{stem}.gpkg"
        layer, empty = _objects(session, layers)
        writing.write_layers(path, [layer, _clicks(session, layers)], place.crs)
        written.append(path)
        notes += [f"{empty} answers without a pixel have no polygon"] if empty else []
    return written, notes


def _stem(name: str) -> str:
    """The name of an image for the names of files."""
    return re.sub(r"[^\w.-]+", "-", Path(name).stem).strip("-.")[:60] or "image"


def _of_layer(
    folder: Path, stem: str, session: Session, layer: AnswerLayer, about: Mapping[str, Yaml]
) -> list[Path]:
    """The mask as PNG and, of a TIFF or JPEG 2000, as GeoTIFF; the overlay; the record."""
    opened, decoded = session.opened, layer.decoded
    paths = [folder / f"{stem}.{suffix}" for suffix in ("mask.png", "overlay.png")]
    write_png(paths[0], decoded.mask)
    write_png(paths[1], pictures.answer_overlay(opened.pixels, layer, layer.query))
    if _takes_raster(opened.place):
        path = folder / f"{stem}.mask.tif"
        values = decoded.mask.astype(np.uint8) * np.uint8(TARGET)
        if opened.valid is not None:
            values[~opened.valid] = NO_DATA
        _write_raster(path, values, opened.place, COLORS, description=layer.query)
        paths.append(path)
    path = folder / f"{stem}.json"
    record = record_of(session, layer, about) | {"files": [one.name for one in paths]}
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [*paths, path]


def _takes_raster(place: Georeference | None) -> TypeGuard[Georeference]:
    """Whether masks of an image are written as GeoTIFF, too: those of a TIFF or JPEG 2000, with the extra `geo`."""
    return place is not None and find_spec("rasterio") is not None


def _write_raster(
    path: Path,
    values: np.ndarray,
    place: Georeference,
    colors: Mapping[int, Color],
    *,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write a GeoTIFF of small whole numbers, uint8 [H, W], at the place of the image."""
    size = (values.shape[0], values.shape[1])
    raster = IndexWriter(
        path, size, place.crs, place.transform, colors=colors, description=description, tags=tags
    )
    raster.write(values)
    raster.close()


def record_of(session: Session, layer: AnswerLayer, about: Mapping[str, Yaml]) -> dict[str, Yaml]:
    """The record of a layer: the clicks as they are now, and the model's answer."""
    clicks: list[Yaml] = [
        {"x": click.x, "y": click.y, "positive": click.positive, "part": part + 1}
        for part, click in editing.clicks_of(layer.parts)
    ]
    answer = layer.prediction
    parts: list[Yaml] = [records.part_of(one) for one in layer.decoded.instances]
    score = layer.decoded.score
    return {
        "query": layer.query,
        **about,
        "source": layer.source or ("adapter" if about.get("adapter") else "base"),
        "image": session.opened.name,
        "size": list(session.opened.size),
        "text": answer.text,
        "status": answer.status,
        "dropped": list(answer.dropped),
        "edited": layer.is_edited,
        "clicks": clicks,
        **({"parts": parts} if parts else {}),
        "score": None if score is None else round(score, 6),
        "mask_area": int(layer.decoded.mask.sum()),
    }


def _of_map(folder: Path, stem: str, session: Session, class_map: ClassMap) -> list[Path]:
    """The map of classes: index mask, overlay with a legend, record; with a place also GeoTIFF and regions."""
    labels, colors = class_map.prediction.labels, class_map.classes.colors
    names, place = class_map.classes.names, session.opened.place
    totals = map_files.Totals()
    totals.add(class_map.prediction)
    paths = [folder / f"{stem}.classes.png", folder / f"{stem}.classes-overlay.png"]
    class_drawing.write_index_mask(paths[0], labels, colors)
    entries = map_files.legend(class_map.rows, totals.no_data)
    write_png(paths[1], class_drawing.overlay(session.opened.pixels, labels, colors, entries))
    if _takes_raster(place):
        path = folder / f"{stem}.classes.tif"
        tags = {f"class_{number}": name for number, name in enumerate(names)}
        _write_raster(path, labels.astype(np.uint8), place, dict(enumerate(colors)), tags=tags)
        paths.append(path)
        if place.transform is not None:
            pieces = ClassPieces()
            pieces.add(labels, class_map.prediction.confidence, Window(0, 0, *session.opened.size))
            regions = class_regions.from_file(path, pieces, place.crs, place.transform)
            paths.append(folder / f"{stem}.classes.gpkg")
            writing.write_polygons(paths[-1], regions, names, place.crs)
    path = folder / f"{stem}.classes.json"
    record = {
        "class_list": class_map.query,
        **class_map.about,
        "image": session.opened.name,
        "size": list(session.opened.size),
        **map_files.record_of(class_map.rows, totals, class_map.classes),
        "files": [one.name for one in paths],
    }
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [*paths, path]


def _objects(session: Session, layers: Sequence[AnswerLayer]) -> tuple[Layer, int]:
    """The objects of all layers as a vector layer, and the number of layers without any."""
    place = session.opened.place
    assert place is not None
    assert place.transform is not None
    found = {
        layer.label: objects.from_mask(
            layer.decoded.mask,
            layer.decoded.score,
            place.crs,
            place.transform,
            TOLERANCE,
            layer.decoded.instances,
        )
        for layer in layers
    }
    return raster_job.object_layer(found), sum(not len(one) for one in found.values())


def _clicks(session: Session, layers: Sequence[AnswerLayer]) -> Layer:
    """The clicks of all layers as points on the centers of pixels."""
    import shapely

    place = session.opened.place
    assert place is not None
    listed = [
        (layer.label, part, click) for layer in layers for part, click in editing.clicks_of(layer.parts)
    ]
    centers = np.array([(click.x + 0.5, click.y + 0.5) for _, _, click in listed]).reshape(-1, 2)
    fields = {
        "query": np.array([label for label, _, _ in listed], object),
        "positive": np.array([click.positive for _, _, click in listed], bool),
        "part": np.array([part + 1 for _, part, _ in listed], np.int64),
    }
    points = shapely.points(vectors.apply(place.transform, centers[:, 0], centers[:, 1]))
    return Layer(raster_job.CLICKS, points, fields, "Point")
