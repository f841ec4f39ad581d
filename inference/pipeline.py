"""A sentence and an image to a mask, from Python.

from geoclick.inference.pipeline import load

pipeline = load()
prediction = pipeline.predict("tile.png", "the largest building")
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from geoclick import devices, segmenters, vlms
from geoclick.errors import GeoClickError
from geoclick.geo.reading import PixelOptions, from_pillow, read_image, recorded_rule
from geoclick.inference import generative
from geoclick.inference.backends import openai
from geoclick.inference.backends.base import Backend
from geoclick.inference.backends.local import MAX_NEW_TOKENS, Local
from geoclick.inference.backends.openai import Server
from geoclick.inference.generative import Generation
from geoclick.inference.prediction import Prediction
from geoclick.inference.votes import Votes
from geoclick.options import GenerationOptions
from geoclick.segmenters.base import Segmenter
from geoclick.vlms import Vlm, quantization
from geoclick.vlms.loading import default_dtype
from geoclick.vlms.merged import MergedRecord

ImageSource = str | Path | Image.Image | np.ndarray
"""A file, an open PIL image, or uint8 [H, W, 3] RGB."""


@dataclass(frozen=True)
class Pipeline:
    """Both models of the generative pipeline, loaded.

    Attributes:
        vlm: writes the clicks; in this process or on a server.
        segmenter: decodes them.
        generation: how answers are generated.
        decode: how clicks are decoded, a key of `generative.DECODE`.
    """

    vlm: Vlm | Server
    segmenter: Segmenter
    generation: Generation
    decode: str = "replay"

    @property
    def backend(self) -> Backend:
        """What writes the answers."""
        return self.vlm if isinstance(self.vlm, Server) else Local(self.vlm, self.generation)

    def predict(self, image: ImageSource, text: str) -> Prediction:
        """The mask of what `text` names in an image; empty if the model answers that there is nothing.

        Raises:
            GeoClickError: the image cannot be read, or the models cannot take it.
        """
        prediction = self.predict_batch([image], [text])[0]
        if prediction.error:
            raise GeoClickError(prediction.error)
        return prediction

    def predict_batch(self, images: Sequence[ImageSource], texts: Sequence[str]) -> list[Prediction]:
        """A prediction for each pair of image and text; an image that occurs several times is embedded once.

        Images that the models cannot take, such as very narrow ones, get a prediction of status `failed`.

        Raises:
            GeoClickError: the numbers of images and texts differ, or an image cannot be read.
        """
        if len(images) != len(texts):
            raise GeoClickError(
                f"{len(images)} images do not match {len(texts)} texts; give one text an image."
            )
        distinct = {id(image): as_array(image) for image in images}
        arrays = [distinct[id(image)] for image in images]
        return generative.predict(
            self.backend, self.segmenter, arrays, texts, decode=self.decode, votes=self.generation.votes
        )


def load(
    vlm: str = "embedded",
    adapter: str | Path | None = None,
    segmenter: str = "embedded",
    checkpoint: str | Path | None = None,
    device: str = "auto",
    *,
    decode: str = "replay",
    pixels: tuple[int | None, int | None] = (None, None),
    generation: Generation | None = None,
    quantise: str = "auto",
    revision: str | None = None,
) -> Pipeline:
    """Load both models.

    Args:
        vlm: `embedded`, a hub id, or a local folder.
        adapter: folder of a LoRA adapter, or None.
        segmenter: `embedded`, or a name with a checkpoint, see `geoclick.segmenters.NAMES`.
        checkpoint: weights of the segmenter, a `.pth` file.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        decode: `replay` or `joint`, see `generative.DECODE`.
        pixels: smallest and largest area of the resized image; None takes the model's.
        quantise: `nf4` loads the VLM in 4 bits, `auto` does if the adapter was trained so, `none` does not.
        generation: how answers are generated; None takes the most likely tokens, in the model's answer format.
        revision: branch, tag or commit of a VLM on the hub; None takes the one that the adapter was trained on, else
            the newest.

    Raises:
        GeoClickError: a model is missing or unreadable, or the adapter does not fit the VLM.
        UsageError: an unknown name or device, or pixel limits other than those of the training.
    """
    frozen = segmenters.load(segmenter, checkpoint=checkpoint, device=device)
    placed = devices.choose(device)
    kind = quantization.kind_of(quantise, adapter)
    quantized = quantization.loading(kind, default_dtype(placed), placed, partitioned=False) if kind else None
    model = vlms.load(
        vlm,
        adapter=adapter,
        device=placed,
        min_pixels=pixels[0],
        max_pixels=pixels[1],
        quantized=quantized,
        revision=revision,
    )
    generation = generation or Generation()
    answer_format = generation.answer_format or generative.default_format(model)
    complete = replace(
        generation,
        answer_format=answer_format,
        max_new_tokens=generation.max_new_tokens or MAX_NEW_TOKENS[answer_format],
    )
    return Pipeline(model, frozen, complete, decode)


def from_options(
    options: GenerationOptions,
    *,
    batch_size: int,
    ledger: Path | None = None,
    revision: str | None = None,
) -> Pipeline:
    """The pipeline of a command's options.

    Args:
        options: of the models.
        batch_size: queries in one call of a model in this process.
        ledger: folder in which the answers of a server are recorded and looked up; None for none.
        revision: see `load`; a server has its own.
    """
    options.check_backend()
    if options.backend == "openai":
        return _served(options, ledger)
    return load(
        options.vlm,
        options.adapter,
        options.segmenter,
        options.checkpoint,
        options.device,
        decode=options.decode,
        pixels=(options.min_pixels, options.max_pixels),
        quantise=options.quantise,
        revision=revision,
        generation=Generation(
            answer_format=options.answer_format,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature or 0.0,
            seed=options.seed,
            constrained=options.constrained,
            votes=Votes(options.samples, options.vote_threshold),
            batch_size=batch_size,
        ),
    )


def _served(options: GenerationOptions, ledger: Path | None) -> Pipeline:
    """The pipeline of a model on a server."""
    server = openai.load(options, temperature=options.temperature, ledger=ledger)
    generation = Generation(
        answer_format=server.answer_format,
        max_new_tokens=options.max_new_tokens,
        votes=Votes(options.samples, options.vote_threshold),
    )
    return Pipeline(server, options.load_segmenter(), generation, options.decode)


def warn_of_pixels(pipeline: Pipeline, pixels: PixelOptions) -> None:
    """Print one line if the adapter was trained on images that were shown by another rule than `pixels`."""
    record = pipeline.vlm.record
    adapter = record.adapter if isinstance(record, MergedRecord) else record
    recorded = adapter.pixels if adapter else {}
    trained = recorded_rule(recorded)
    if recorded and trained != pixels:
        bands = f"--bands {' '.join(map(str, trained.bands))}" if trained.bands else "the default bands"
        stretch = " ".join(f"{value:g}" for value in trained.stretch) or "none"
        print(
            f"warning: the adapter was trained on images shown with {bands} and --stretch {stretch}; give the "
            "same options, unless these images are shown so already."
        )


def as_array(image: ImageSource) -> np.ndarray:
    """An image as uint8 [H, W, 3] RGB.

    Raises:
        GeoClickError: the file cannot be read, or the array has another shape or type.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return from_pillow(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise GeoClickError(
            f"An image array must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}; convert it."
        )
    return image
