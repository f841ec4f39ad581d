"""A pipeline without models: the mask is the bright or the dark pixels of what it is shown."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from geoclick.clicks import Click
from geoclick.geo.reading import PixelOptions
from geoclick.inference.generative.prediction import Prediction, SampledAnswer, failed
from geoclick.inference.predictions import answers, output_files
from geoclick.inference.predictions.inputs import Input
from geoclick.inference.predictions.records import Setting


class Thresholds:
    """Answers `bright` and `dark`, with a click on the first pixel of the mask.

    Attributes:
        shown: the images of all queries.
        batches: number of queries in each call.
        radius: of the box over which pixels are averaged before they are compared.
        samples: answers that are said to have been sampled.
    """

    samples = 0

    def __init__(self, radius=0):
        self.shown, self.batches, self.radius = [], [], radius

    def predict_batch(self, images, texts):
        self.shown += images
        self.batches.append(len(texts))
        return [self.answer(image, text) for image, text in zip(images, texts, strict=True)]

    def answer(self, image, text):
        if max(image.shape) > 200 * min(image.shape[:2]):
            return failed(image.shape[:2], "An image is too narrow; cut it into pieces.")
        if text == "nothing":
            return failed(image.shape[:2], "The server does not answer.")
        gray = image[..., 0].astype(np.float32)
        gray = ndimage.uniform_filter(gray, 2 * self.radius + 1) if self.radius else gray
        mask = gray > 128 if text == "bright" else gray < 64
        first = int(mask.argmax())
        clicks = (Click(float(first % mask.shape[1]), float(first // mask.shape[1])),) if mask.any() else ()
        score = round(float(gray.mean()) / 255, 6)
        samples = tuple(SampledAnswer(f"{text}{number}", "ok") for number in range(self.samples))
        return Prediction(
            mask,
            clicks,
            f"{text}!",
            "ok" if clicks else "empty",
            score=score,
            confidence=score / 2,
            samples=samples,
        )


def predict(folder, paths, texts=("bright",), predictor=None, batch_size=4, **options):
    """Answer queries about images as the command does; returns the failures."""
    given = {"tile": None, "overlap": 0, "resolution": None, "tolerance": 0.0, "pixels": PixelOptions()}
    about = {"vlm": "thresholds", "segmenter": "none", **{key: str(value) for key, value in options.items()}}
    setting = Setting(folder=Path(folder), about=about, **(given | options))
    images = [Input(Path(path), tuple(texts)) for path in paths]
    names = output_files.names_of(images)
    Path(folder).mkdir(exist_ok=True)
    return answers.answer_all(predictor or Thresholds(), setting, images, names, batch_size)
