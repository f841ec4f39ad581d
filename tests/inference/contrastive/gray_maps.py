"""A pipeline of maps without models: the class of a pixel is its gray value in four steps."""

import numpy as np
import torch

from geoclick.errors import GeoClickError
from geoclick.inference.contrastive import classes, windowed
from geoclick.inference.contrastive.map_models import MapModels
from geoclick.inference.contrastive.prediction import SemanticPrediction
from geoclick.inference.predictions import asking
from geoclick.inference.predictions.inputs import Input
from geoclick.inference.predictions.output_files import names_of

QUERY = "dark; dim, dusk; light; bright: red"


class GrayMaps:
    """Counts the images and windows that it is shown.

    Attributes:
        shown: their sizes.
        ends_at: an image after which `KeyboardInterrupt` is raised, as a kill would end the job; None for none.
    """

    def __init__(self, query=QUERY, side=64, ends_at=None):
        self.classes = classes.with_background(classes.from_option(query))
        self.side, self.shown, self.ends_at = side, [], ends_at

    def decide(self, image, logits=None):
        if len(self.shown) == self.ends_at:
            raise KeyboardInterrupt
        self.shown.append(image.shape[:2])
        if min(image.shape[:2]) < 2:
            raise GeoClickError("The image is too narrow; give a larger one.")
        labels = (image[..., 0] // 64).astype(np.int32)
        confidence = (image[..., 0] % 64 / 64).astype(np.float32)
        return SemanticPrediction(labels, confidence, 0.5, 2)

    def predict(self, image):
        return self.decide(image)

    def windows(self, source):
        return windowed.maps(source, self.side, lambda window: torch.zeros(0), self.decide)

    def describe(self):
        return {"method": "gray", "side": self.side, "clip": None, "segmenter": None}


def predict(folder, paths, pipeline=None, pixels=None, resolution=None):
    """Make maps as the command does; returns the failures."""
    from geoclick.geo.reading import PixelOptions

    models = MapModels(pipeline or GrayMaps(), QUERY, pixels or PixelOptions(), resolution)
    images = [Input(path, (QUERY,)) for path in paths]
    folder.mkdir(exist_ok=True)
    return asking.answer_all(asking.Local(models), folder, images, names_of(images), 1)
