"""A GeoTIFF or JPEG 2000, read and written window by window: masks as GeoTIFF, and polygons and clicks as vectors."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from geoclick import files, images, masks
from geoclick.clicks import Click
from geoclick.errors import GeoClickError
from geoclick.geo import mask_raster, objects, part_objects, tiles, vectors, views, writing
from geoclick.geo.mask_raster import MaskWriter
from geoclick.geo.objects import Objects, Pieces
from geoclick.geo.part_objects import WindowPart
from geoclick.geo.tiles import Grid, Tile, Window
from geoclick.geo.writing import Layer
from geoclick.inference.generative.prediction import Prediction
from geoclick.inference.predictions import overlays, records
from geoclick.inference.predictions.image_job import found
from geoclick.inference.predictions.inputs import Input
from geoclick.inference.predictions.jobs import Job
from geoclick.inference.predictions.options import TILE
from geoclick.inference.predictions.output_files import Names
from geoclick.inference.predictions.records import Setting
from geoclick.inference.predictions.windows import WORST_FIRST, lowest_scores
from geoclick.instances import Instance
from geoclick.masks import Rle
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from geoclick.geo.views import RasterView

OBJECTS, CLICKS = "objects", "clicks"
"""Layers of the GeoPackage."""


class _Placed(NamedTuple):
    """A click in pixels of the view, with the number of its window, and of its part; 0 of an answer of one part."""

    click: Click
    window: int
    part: int


@dataclass(eq=False)
class _Answer:
    """What the windows say about one text.

    Attributes:
        writer: of the mask.
        pieces: components of the masks of the windows.
        clicks: of all windows.
        parts: of the windows whose answers have several, in pixels of the view.
        single: the masks of the other windows, with the number of each.
        windows: text, status and score of each window that was asked.
    """

    writer: MaskWriter
    pieces: Pieces = field(default_factory=Pieces)
    clicks: list[_Placed] = field(default_factory=list)
    parts: list[WindowPart] = field(default_factory=list)
    single: list[tuple[Rle, int]] = field(default_factory=list)
    windows: list[tuple[int, Prediction]] = field(default_factory=list)


class RasterJob(Job):
    """The queries about a raster; only the rows of one row of windows are in memory."""

    def __init__(self, image: Input, names: Names, setting: Setting) -> None:
        super().__init__(image)
        self.names, self.setting = names, setting
        self._stack = ExitStack()
        self._answers: dict[str, _Answer] = {}
        self._valid: dict[Tile, np.ndarray | None] = {}
        self._empty: list[Tile] = []
        self._view: RasterView
        self._grid: Grid

    def windows(self) -> Iterator[tuple[Tile, np.ndarray]]:
        """See Job; windows without data are not asked about."""
        setting = self.setting
        opened = views.open_view(self.image.path, setting.pixels, setting.resolution)
        self._view = view = self._stack.enter_context(opened)
        self._grid = tiles.cut(view.size, setting.tile or TILE, setting.overlap)
        for text, stem in zip(self.image.texts, self.names.answers, strict=True):
            path = setting.folder / f"{stem}.mask.tif"
            self._answers[text] = _Answer(
                MaskWriter(
                    path,
                    self._grid,
                    view.size,
                    view.crs,
                    view.transform,
                    name=text,
                    longest=overlays.LONGEST,
                )
            )
        for tile in tiles.all_tiles(self._grid):
            pixels, valid = view.read(tiles.window(self._grid, tile))
            if valid is not None and not valid.any():
                self._empty.append(tile)
                continue
            self._valid[tile] = valid
            yield tile, pixels

    def add(self, tile: Tile, answers: Sequence[Prediction]) -> None:
        """See Job."""
        self._add_empty(tile)
        valid, window = self._valid.pop(tile), tiles.window(self._grid, tile)
        number = tile[0] * len(self._grid.columns) + tile[1]
        for text, prediction in zip(self.image.texts, answers, strict=True):
            if text in self.errors:
                continue
            answer = self._answers[text]
            mask = prediction.mask if valid is None else prediction.mask & valid
            answer.writer.add(tile, mask, valid)
            answer.pieces.add(mask, window, number, prediction.score, prediction.confidence)
            answer.clicks += _placed(prediction, window, number)
            answer.parts += [
                WindowPart(one.moved(window.row, window.column), window, number, prediction.confidence)
                for one in _valid(prediction.instances, valid)
            ]
            if not prediction.instances and mask.any():
                answer.single.append((masks.encode_rle(mask), number))
            boxes = tuple(
                (left + window.column, top + window.row, right + window.column, bottom + window.row)
                for left, top, right, bottom in prediction.boxes
            )
            # Without the mask, which is written.
            answer.windows.append((number, replace(_without_mask(prediction), boxes=boxes)))

    def _add_empty(self, until: Tile | None) -> None:
        """Add the windows without data before `until`; None adds all."""
        while self._empty and (until is None or self._empty[0] < until):
            tile = self._empty.pop(0)
            for text, answer in self._answers.items():
                if text not in self.errors:
                    answer.writer.add(tile, None, None)

    def finish(self) -> list[str]:
        """See Job."""
        self._add_empty(None)
        answers = {text: answer for text, answer in self._answers.items() if text not in self.errors}
        for text, answer in self._answers.items():
            if text in answers:
                answer.writer.close()
            else:
                answer.writer.abort(GeoClickError(self.errors[text]))
        found_objects = {text: self._objects(text, answer) for text, answer in answers.items()}
        vectors, notes = self._write_vectors(answers, found_objects)
        picture = self._view.overview(overlays.LONGEST)
        stems = dict(zip(self.image.texts, self.names.answers, strict=True))
        lines = [
            self._write(stems[text], text, answer, picture, vectors, len(found_objects[text]))
            for text, answer in answers.items()
        ]
        self._stack.close()
        return ["; ".join([line, *notes]) for line in lines]

    def abort(self, error: Exception) -> None:
        """See Job."""
        for answer in self._answers.values():
            answer.writer.abort(error)
        self._stack.close()

    def _objects(self, text: str, answer: _Answer) -> Objects:
        """The objects of a text; none without a place, in which polygons lie."""
        view, path = self._view, answer.writer.path
        if view.transform is None:
            return objects.NONE
        parts = [one for one in answer.parts if one.instance.area]
        if parts:
            parts += self._single_parts(answer)
        return objects.from_file(path, answer.pieces, view.crs, view.transform, self.setting.tolerance, parts)

    def _single_parts(self, answer: _Answer) -> Iterator[WindowPart]:
        """The components of the masks of windows with an answer of one part."""
        of_window = dict(answer.windows)
        for rle, number in answer.single:
            window = tiles.window(self._grid, divmod(number, len(self._grid.columns)))
            one = of_window[number]
            mask = masks.decode_rle(rle)
            yield from part_objects.components(mask, window, number, one.score, one.confidence)

    def _write_vectors(
        self, answers: dict[str, _Answer], of_text: dict[str, Objects]
    ) -> tuple[list[str], list[str]]:
        """Write the GeoPackage and GeoJSON of all texts; returns their names, and notes for the user."""
        view = self._view
        if view.transform is None:
            return [], [f"no polygons, since {view.problem}"]
        polygons = object_layer(of_text)
        clicks = click_layer({text: answer.clicks for text, answer in answers.items()}, view)
        count = sum(map(len, of_text.values()))
        written, notes = [], [f"{count} polygons"]
        for suffix, layers in (("gpkg", [polygons, clicks]), ("geojson", [polygons])):
            name = f"{self.names.image}.{suffix}"
            try:
                writing.write_layers(self.setting.folder / name, layers, view.crs)
                written.append(name)
            except GeoClickError as error:
                notes.append(str(error))
        return written, notes

    def _write(
        self, stem: str, text: str, answer: _Answer, picture: np.ndarray, vectors: list[str], count: int
    ) -> str:
        """Write the overlay, the mask as PNG and the record of a text; returns a line about it."""
        folder, view, writer = self.setting.folder, self._view, answer.writer
        written = [writer.path.name, f"{stem}.overlay.png"]
        single = [placed.click for placed in answer.clicks if not placed.part]
        instances = [part.instance for part in answer.parts]
        drawn = overlays.draw(picture, writer.small, single, view.size, instances, text)
        _write_png(folder / written[1], drawn)
        if view.size[0] * view.size[1] <= images.MAX_PIXELS:
            written.append(f"{stem}.mask.png")
            _write_png(folder / written[-1], mask_raster.read_mask(writer.path))
        prediction = self._together(answer)
        record = records.record_of(self.setting, self.image, text, view.full_size, prediction)
        listed: list[Yaml] = [
            {
                "number": number,
                "status": one.status,
                "clicks": len(one.clicks),
                **records.scores_of(one),
                **records.sampled_of(one),
            }
            for number, one in answer.windows
        ]
        pixels = view.size[0] * view.size[1]
        record |= {
            "mask": written[-1],
            "raster": written[0],
            "mask_area": writer.area,
            "mask_size": list(view.size),
            "no_data": round(writer.no_data / pixels, 6),
            "crs": view.crs or None,
            "transform": None if view.transform is None else list(view.transform[:6]),
            "window": self.setting.tile or TILE,
            "window_rows": list(map(int, self._grid.rows)),
            "window_columns": list(map(int, self._grid.columns)),
            "windows": listed,
            **self._parts(answer),
            "vectors": list(vectors),
            "polygons": count,
            "files": [*written, *vectors],
        }
        records.write(folder, stem, record)
        line = found(text, self.image, prediction, writer.area)
        return "; ".join([line, *self._counts(answer)])

    def _together(self, answer: _Answer) -> Prediction:
        """Status, text and clicks of the complete raster, without its mask; clicks in pixels of the raster."""
        rows, columns = self._view.scale
        parts = [one for _, one in answer.windows]
        statuses = {one.status for one in parts}
        clicks = tuple(
            click._replace(x=(click.x + 0.5) * columns - 0.5, y=(click.y + 0.5) * rows - 0.5)
            for click, _, _ in answer.clicks
        )
        return Prediction(
            mask=np.zeros((0, 0), bool),
            clicks=clicks,
            text="\n".join(one.text for one in parts),
            status=next((status for status in WORST_FIRST if status in statuses), "empty"),
            dropped=tuple(reason for one in parts for reason in one.dropped),
            boxes=tuple(
                (left * columns, top * rows, (right + 1) * columns - 1, (bottom + 1) * rows - 1)
                for one in parts
                for left, top, right, bottom in one.boxes
            ),
            **lowest_scores(parts),
        )

    def _parts(self, answer: _Answer) -> dict[str, Yaml]:
        """The parts of the windows whose answers have several, in pixels of the raster; areas are those of the mask."""
        rows, columns = self._view.scale
        parts: list[Yaml] = [
            {"window": one.number, **records.part_of(one.instance, (rows, columns))} for one in answer.parts
        ]
        return {"parts": parts} if parts else {}

    def _counts(self, answer: _Answer) -> list[str]:
        """The windows and the pixels without data, in words."""
        words = []
        total = len(self._grid.rows) * len(self._grid.columns)
        if total > 1:
            side = self.setting.tile or TILE
            words.append(f"asked in {len(answer.windows)} of {total} windows of {side} pixels")
        if self._view.size != self._view.full_size:
            words.append(f"seen at {self._view.size[1]}x{self._view.size[0]} pixels")
        if answer.writer.no_data:
            share = answer.writer.no_data / (self._view.size[0] * self._view.size[1])
            words.append(f"{share:.1%} of the pixels have no data")
        return words


def _placed(prediction: Prediction, window: Window, number: int) -> list[_Placed]:
    """The clicks of a window's answer."""
    parts = enumerate((one.clicks for one in prediction.instances), start=1)
    numbered = [(click, part) for part, clicks in parts for click in clicks]
    return [
        _Placed(click._replace(x=click.x + window.column, y=click.y + window.row), number, part)
        for click, part in numbered or [(click, 0) for click in prediction.clicks]
    ]


def _valid(instances: Sequence[Instance], valid: np.ndarray | None) -> Sequence[Instance]:
    """Instances without the pixels that have no data."""
    return instances if valid is None else [one.within(valid) for one in instances]


def _without_mask(prediction: Prediction) -> Prediction:
    return replace(prediction, mask=np.zeros((0, 0), bool), instances=())


def _write_png(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG, which gets its name when it is complete."""
    files.refuse_link(path)
    with files.whole(path) as partial:
        images.write_png(partial, pixels)


def object_layer(of_text: dict[str, Objects]) -> Layer:
    """The objects of all texts as a layer, see `Objects`."""
    parts = list(of_text.values())
    shapes = np.concatenate([one.shapes for one in parts])
    fields = {
        "id": np.arange(1, len(shapes) + 1),
        "query": np.repeat(np.array([*of_text], object), [len(one) for one in parts]),
        "pixels": np.concatenate([one.pixels for one in parts]),
        "area_m2": np.concatenate([one.areas for one in parts]),
        "score": np.concatenate([one.scores for one in parts]),
        "confidence": np.concatenate([one.confidences for one in parts]),
        "window": np.concatenate([one.windows for one in parts]),
        "windows": np.concatenate([one.joined for one in parts]),
        "parts": np.concatenate([one.parts for one in parts]),
    }
    return writing.polygon_layer(OBJECTS, shapes, fields)


def click_layer(of_text: dict[str, list[_Placed]], view: "RasterView") -> Layer:
    """The clicks of all texts as a layer of points; a click is on the center of a pixel of the view."""
    import shapely

    listed = [(text, placed) for text, clicks in of_text.items() for placed in clicks]
    affine = view.transform
    assert affine is not None
    places = np.array([(one.click.x + 0.5, one.click.y + 0.5) for _, one in listed]).reshape(-1, 2)
    shapes = shapely.points(vectors.apply(affine, places[:, 0], places[:, 1]))
    fields = {
        "query": np.array([text for text, _ in listed], object),
        "positive": np.array([one.click.positive for _, one in listed], bool),
        "window": np.array([one.window for _, one in listed], np.int64),
        "part": np.array([one.part for _, one in listed], np.int64),
    }
    return Layer(CLICKS, shapes, fields, "Point")
