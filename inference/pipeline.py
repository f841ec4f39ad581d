"""A sentence and an image to a mask, from Python.

from geoclick.inference.pipeline import load

pipeline = load()
result = pipeline.predict("tile.png", "the largest building")
result.mask
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image

from geoclick import devices, segmenters, vlms
from geoclick.errors import GeoClickError
from geoclick.geo.reading import PixelOptions, from_pillow, read_image
from geoclick.inference import result
from geoclick.inference.backends import openai, vllm_loading
from geoclick.inference.backends.base import Backend
from geoclick.inference.backends.local import Local
from geoclick.inference.backends.openai import Server
from geoclick.inference.backends.vllm import Vllm
from geoclick.inference.generative import answering, rounds
from geoclick.inference.generative.settings import Generation, Votes, default_format
from geoclick.inference.result import Result
from geoclick.jobs import processes
from geoclick.options import GenerationOptions
from geoclick.segmenters.base import Segmenter
from geoclick.vlms import Vlm, pixel_rules, quantization
from geoclick.vlms.generation.answers import MAX_NEW_TOKENS
from geoclick.vlms.loading import default_dtype

ImageSource = str | Path | Image.Image | np.ndarray
"""A file, an open PIL image, or uint8 [H, W, 3] RGB."""


@dataclass(frozen=True)
class Pipeline:
    """Both models of the generative pipeline, loaded.

    Attributes:
        vlm: writes the clicks; with transformers or vLLM in this process, or on a server.
        segmenter: decodes them.
        generation: how answers are generated.
        decode: how clicks are decoded, a key of `mask_decoding.DECODE`.
    """

    vlm: Vlm | Vllm | Server
    segmenter: Segmenter
    generation: Generation
    decode: str = "replay"

    @property
    def backend(self) -> Backend:
        """What writes the answers."""
        return Local(self.vlm, self.generation) if isinstance(self.vlm, Vlm) else self.vlm

    @overload
    def predict(self, image: ImageSource, text: str) -> Result: ...

    @overload
    def predict(self, image: ImageSource, text: list[str] | tuple[str, ...]) -> list[Result]: ...

    def predict(self, image: ImageSource, text: str | list[str] | tuple[str, ...]) -> Result | list[Result]:
        """The mask of what `text` names in an image; empty if the model answers that there is nothing.

        A list of texts gives a list of results; VLM and segmenter encode the image once for all of them.

        Raises:
            GeoClickError: the image cannot be read, or the models cannot take it; or a server does not answer.
        """
        texts = [text] if isinstance(text, str) else list(text)
        results = self.predict_batch([image] * len(texts), texts)
        for one in results:
            if one.error:
                raise GeoClickError(one.error)
        return results[0] if isinstance(text, str) else results

    def predict_batch(self, images: Sequence[ImageSource], texts: Sequence[str]) -> list[Result]:
        """A result for each pair of image and text; an image that occurs several times is read and encoded once.

        An image that the models cannot take, such as a very narrow one, gets a result of status `failed`, whose
        `error` says why; likewise a query that a server does not answer.

        Raises:
            GeoClickError: the numbers of images and texts differ, or an image cannot be read.
        """
        if len(images) != len(texts):
            raise GeoClickError(
                f"{len(images)} images do not match {len(texts)} texts; give one text an image."
            )
        keys = [str(image) if isinstance(image, str | Path) else id(image) for image in images]
        distinct = {key: as_array(image) for key, image in dict(zip(keys, images, strict=True)).items()}
        arrays = [distinct[key] for key in keys]
        predictions = answering.predict(
            self.backend, self.segmenter, arrays, texts, decode=self.decode, votes=self.generation.votes
        )
        if self.generation.rounds > 1 and isinstance(self.backend, Local):
            predictions = rounds.refine(
                self.backend,
                self.segmenter,
                arrays,
                texts,
                predictions,
                rounds=self.generation.rounds,
                decode=self.decode,
            )
        return [
            result.of(one, text, array, Path(image) if isinstance(image, str | Path) else None)
            for one, text, array, image in zip(predictions, texts, arrays, images, strict=True)
        ]


def load(
    vlm: str | None = None,
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
        vlm: `embedded`, a hub id, or a local folder; None is the model that the adapter was trained on, else the
            embedded one.
        adapter: folder of a LoRA adapter, or None.
        segmenter: as in `geoclick.segmenters.load`.
        checkpoint: weights of a segmenter of segment-anything, a `.pth` file.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        decode: `replay`, `joint` or `first`, see `mask_decoding.DECODE`.
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
    quantized = quantization.of_adapter(quantise, adapter, default_dtype(placed), placed)
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
    answer_format = generation.answer_format or default_format(model)
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
    generation = Generation(
        answer_format=options.answer_format,
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature or 0.0,
        seed=options.seed,
        constrained=options.constrained,
        votes=Votes(options.samples, options.vote_threshold),
        rounds=options.rounds,
        batch_size=batch_size,
        compile=options.compile,
    )
    if options.backend == "vllm":
        model = vllm_loading.load(options, generation, revision=revision)
        return Pipeline(model, options.load_segmenter(), model.generation, options.decode)
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
        generation=generation,
    )


def _served(options: GenerationOptions, ledger: Path | None) -> Pipeline:
    """The pipeline of a model on a server."""
    server = openai.load(options, temperature=options.temperature, ledger=ledger)
    if options.samples > 1 and options.temperature is None and processes.is_first():
        print("The server's own temperature decides how much the --samples differ; --temperature sets it.")
    generation = Generation(
        answer_format=server.answer_format,
        max_new_tokens=options.max_new_tokens,
        votes=Votes(options.samples, options.vote_threshold),
    )
    return Pipeline(server, options.load_segmenter(), generation, options.decode)


def warn_of_untrained(pipeline: Pipeline, pixels: PixelOptions) -> None:
    """Print one line for each way in which the images are shown to the model but were not in its training.

    That is by another rule than `pixels`, and with masks drawn on them, as from the second round on.
    """
    record = pipeline.vlm.record
    if warning := pixel_rules.warning(record, pixels):
        print(f"warning: {warning}")
    if pipeline.generation.rounds > 1 and (record is None or record.shown_masks is False):
        print(
            "warning: --rounds shows the model masks drawn on the images, but it was not trained on such images; train "
            "it on rows of geoclick synth --show-masks."
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
