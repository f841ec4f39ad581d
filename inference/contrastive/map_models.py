"""The models of `geoclick predict --classes`: they make a map of classes of each image and write its files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geoclick import devices
from geoclick.errors import GeoClickError
from geoclick.geo import georeference, views
from geoclick.geo.reading import PixelOptions, read_image
from geoclick.inference.contrastive import map_files, raster_map
from geoclick.inference.contrastive.map_files import MapPipeline
from geoclick.inference.predictions import records
from geoclick.inference.predictions.models import Done, Named
from geoclick.inference.predictions.options import PredictOptions
from geoclick.yaml_file import Yaml


@dataclass(frozen=True)
class MapModels:
    """A pipeline of maps as Models, see there.

    Attributes:
        pipeline: the models.
        query: the class list as the user gave it.
        pixels: how images are read.
        resolution: of rasters in meters per pixel; None for their own.
    """

    pipeline: MapPipeline
    query: str
    pixels: PixelOptions
    resolution: float | None

    @property
    def about(self) -> Mapping[str, Yaml]:
        """See Models; the class list may come from a file, so its content is part of it."""
        classes = self.pipeline.classes
        listed: list[Yaml] = [
            [list(synonyms), list(color)]
            for synonyms, color in zip(classes.synonyms, classes.colors, strict=True)
        ]
        return self._described | {"classes": listed}

    @property
    def _described(self) -> dict[str, Yaml]:
        pixels = self.pixels
        reading: dict[str, Yaml] = {
            "resolution": self.resolution,
            "bands": list(pixels.bands),
            "stretch": list(pixels.stretch),
        }
        return self.pipeline.describe() | reading

    def answer(self, named: Sequence[Named], folder: Path) -> Iterator[Done]:
        """See Models."""
        for image, names in named:
            try:
                line = self._write(image.path, names.answers[0], folder)
            except GeoClickError as error:
                yield Done((image, names), {self.query: str(error)}, [])
            else:
                yield Done((image, names), {}, [f"{image.path}: {line}"])

    def _write(self, path: Path, stem: str, folder: Path) -> str:
        """Make the map of an image and write its files; returns a line about it."""
        about: dict[str, Yaml] = {"query": self.query, "image": str(path)}
        about |= self._described
        if views.can_open(path):
            about["request"] = records.request(self.about, path, self.query)
            with views.open_view(path, self.pixels, self.resolution) as view:
                return raster_map.write(self.pipeline, view, folder, stem, about)
        if self.resolution is not None:
            raise views.no_place(path)
        image = read_image(path, pixels=self.pixels)
        about["request"] = records.request(self.about, path, self.query)
        place = georeference.read(path, self.pixels.bands)
        with devices.enough_memory(f"an image of {image.shape[1]}x{image.shape[0]} pixels"):
            prediction = self.pipeline.predict(image)
        return map_files.write(folder, stem, image, prediction, self.pipeline.classes, about, place)


def load(options: PredictOptions) -> MapModels:
    """The models of the options."""
    pipeline = (_sam3 if options.method == "sam3" else _contrastive)(options)
    return MapModels(pipeline, options.classes or "", options.pixels(), options.resolution)


def _sam3(options: PredictOptions) -> MapPipeline:
    """SAM 3 with the class list as prompts."""
    from geoclick.inference.contrastive import sam3

    return sam3.load_pipeline(
        options.classes or "",
        options.sam3 or "",
        device=options.device,
        threshold=options.threshold,
        tile=options.tile or sam3.TILE,
        overlap=options.overlap,
    )


def _contrastive(options: PredictOptions) -> MapPipeline:
    """CLIP, with or without the proposals of the segmenter."""
    from geoclick.inference.contrastive import pipeline, settings

    return pipeline.load(
        options.classes or "",
        options.method,
        clip=options.clip,
        clip_checkpoint=options.clip_checkpoint,
        segmenter=options.segmenter,
        checkpoint=options.checkpoint,
        device=options.device,
        settings=settings.settings_of(options, tile=options.tile, overlap=options.overlap),
    )
