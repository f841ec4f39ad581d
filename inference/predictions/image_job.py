"""An image that is read at once: a mask as PNG, an overlay and a record for each text."""

from collections.abc import Iterator, Sequence

import numpy as np

from geoclick import files
from geoclick.geo import tiles
from geoclick.geo.reading import read_image
from geoclick.geo.tiles import Tile, Window
from geoclick.images import write_png
from geoclick.inference.generative.prediction import Prediction
from geoclick.inference.predictions import records, windows
from geoclick.inference.predictions.inputs import Input
from geoclick.inference.predictions.jobs import Job
from geoclick.inference.predictions.output_files import Names
from geoclick.inference.predictions.records import Setting
from geoclick.pages import click_drawing
from geoclick.scoring.records import CUT


class ImageJob(Job):
    """The queries about an image that is not cut, or only with `--tile`."""

    def __init__(self, image: Input, names: Names, setting: Setting) -> None:
        super().__init__(image)
        self.names, self.setting = names, setting
        self.pixels = np.zeros((0, 0, 3), np.uint8)
        self.places: dict[Tile, Window] = {}
        self.answers: list[list[tuple[Window, Prediction]]] = [[] for _ in image.texts]

    def windows(self) -> Iterator[tuple[Tile, np.ndarray]]:
        """See Job."""
        self.pixels = read_image(self.image.path, pixels=self.setting.pixels)
        size, tile = (self.pixels.shape[0], self.pixels.shape[1]), self.setting.tile
        if tile is None or max(size) <= tile:
            self.places[0, 0] = Window(0, 0, *size)
            yield (0, 0), self.pixels
            return
        grid = tiles.cut(size, tile, self.setting.overlap)
        for place in tiles.all_tiles(grid):
            self.places[place] = tiles.window(grid, place)
            yield place, tiles.crop(self.pixels, self.places[place])

    def add(self, tile: Tile, answers: Sequence[Prediction]) -> None:
        """See Job."""
        for own, answer in zip(self.answers, answers, strict=True):
            own.append((self.places[tile], answer))

    def finish(self) -> list[str]:
        """See Job."""
        size = (self.pixels.shape[0], self.pixels.shape[1])
        lines = []
        for text, stem, answers in zip(self.image.texts, self.names.answers, self.answers, strict=True):
            if text in self.errors:
                continue
            prediction = windows.together(size, answers)
            folder = self.setting.folder
            written = [f"{stem}.mask.png", f"{stem}.overlay.png"]
            for name, pixels in zip(written, (prediction.mask, self._overlay(text, prediction)), strict=True):
                files.refuse_link(folder / name)
                with files.whole(folder / name) as partial:
                    write_png(partial, pixels)
            record = records.record_of(self.setting, self.image, text, size, prediction)
            area = int(prediction.mask.sum())
            record |= {"mask": written[0], "mask_area": area, "files": list(written)}
            records.write(folder, stem, record)
            lines.append(found(text, self.image, prediction, area))
        return lines

    def _overlay(self, text: str, prediction: Prediction) -> np.ndarray:
        return click_drawing.overlay(
            self.pixels,
            prediction.mask,
            prediction.clicks,
            prediction.boxes,
            prediction.instances,
            query=text,
        )


def found(text: str, image: Input, prediction: Prediction, area: int) -> str:
    """A line about one answer; `area` is that of the mask in pixels."""
    name = f"{image.path}: " if len(image.texts) == 1 else f"{image.path}, {text}: "
    cut = f", {CUT}: give a larger --max-new-tokens" if CUT in prediction.dropped else ""
    return f"{name}{prediction.status}, {len(prediction.clicks)} clicks, {area} pixels{cut}"
