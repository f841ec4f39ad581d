"""The predictors of an evaluation, by the values of `--predictor`; those of maps are in map_predictors.py."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from geoclick import masks
from geoclick.clicks import Click, ClickSequence
from geoclick.errors import GeoClickError, UsageError
from geoclick.files import sha256
from geoclick.inference.backends import ledger
from geoclick.inference.evaluation import map_predictors
from geoclick.inference.evaluation.options import MAP_PREDICTORS
from geoclick.inference.generative.prediction import Prediction, failed
from geoclick.jobs import processes

if TYPE_CHECKING:
    from geoclick.datasets import Sample
    from geoclick.inference.evaluation.dataset_scan import DatasetScan
    from geoclick.inference.evaluation.options import EvaluateOptions, ResolvedOptions
    from geoclick.inference.pipeline import Pipeline
    from geoclick.segmenters.base import Segmenter

ADAPTER_CONFIG = "adapter_config.json"
"""PEFT's settings of an adapter, such as the factor by which its weights are scaled."""


class Predictor(Protocol):
    """Answers samples with one mask each.

    Attributes:
        uses_models: whether it needs the images; otherwise none is read.
    """

    uses_models: ClassVar[bool]

    def describe(self) -> dict[str, Any]:
        """Its part of the protocol: everything that decides its masks."""
        ...

    def predict(self, samples: Sequence["Sample"], images: Sequence[np.ndarray]) -> list[Prediction]:
        """One prediction for each sample, in order.

        Args:
            samples: those on one image follow one another; all of an image together if the predictor makes maps.
            images: uint8 [H, W, 3] RGB, one for each sample and the same array for those on one image; empty if
                the predictor uses no models.
        """
        ...


def load(options: "ResolvedOptions", scan: "DatasetScan") -> Predictor:
    """The predictor of the options, with its models on this process's device.

    Raises:
        UsageError: an option that the predictor needs is missing or does not fit it.
        GeoClickError: a model cannot be loaded, or the click store lacks samples.
    """
    return LOADERS[options.predictor](options, scan)


@dataclass(frozen=True)
class Generative:
    """The VLM, with its adapter if one is named, writes the clicks."""

    pipeline: "Pipeline"
    adapter: str | None
    uses_models: ClassVar[bool] = True

    @classmethod
    def load(cls, options: "EvaluateOptions", scan: "DatasetScan") -> "Generative":
        """Load both models."""
        from geoclick.inference import pipeline

        models = pipeline.from_options(
            _on_device(options),
            batch_size=options.batch_size,
            ledger=Path(options.output) / ledger.FOLDER,
        )
        if processes.is_first():
            pipeline.warn_of_untrained(models, options.pixels())
        return cls(models, options.adapter)

    def describe(self) -> dict[str, Any]:
        """VLM, adapter, generation and segmenter."""
        from geoclick import prompts
        from geoclick.inference.backends.openai import Server
        from geoclick.inference.backends.vllm import Vllm
        from geoclick.vlms import adapter as adapters
        from geoclick.vlms import loading

        vlm, generation = self.pipeline.vlm, self.pipeline.generation
        if isinstance(vlm, Server):
            return {
                **vlm.describe(),
                **generation.describe(),
                **_describe_segmenter(self.pipeline.segmenter, self.pipeline.decode),
            }
        min_pixels, max_pixels = loading.pixel_limits(vlm.processor)
        return {
            "vlm": vlm.name,
            "vlm_revision": vlm.revision,
            "vlm_fingerprint": vlm.fingerprint,
            "adapter": self.adapter,
            "adapter_sha256": sha256(Path(self.adapter) / adapters.WEIGHTS) if self.adapter else None,
            "adapter_config_sha256": sha256(Path(self.adapter) / ADAPTER_CONFIG) if self.adapter else None,
            "answer_format": generation.answer_format,
            "prompt_version": prompts.PROMPT_VERSION,
            "min_pixels": min_pixels,
            "max_pixels": max_pixels,
            "max_new_tokens": generation.max_new_tokens,
            "temperature": generation.temperature,
            # Only then, so that the other folders of earlier versions can be continued.
            **({"quantise": vlm.quantized} if vlm.quantized else {}),
            **generation.describe(),
            **(vlm.describe() if isinstance(vlm, Vllm) else {}),
            **_describe_segmenter(self.pipeline.segmenter, self.pipeline.decode),
        }

    def predict(self, samples: Sequence["Sample"], images: Sequence[np.ndarray]) -> list[Prediction]:
        """Write and decode the clicks for the samples' queries."""
        return list(self.pipeline.predict_batch(images, [sample.query for sample in samples]))


class StoredClicks(NamedTuple):
    """The row of a sample in a click store: the file of its image, and its clicks in parts."""

    image: str
    parts: tuple[ClickSequence, ...]


@dataclass(frozen=True)
class Oracle:
    """The clicks of a store, decoded the same way: the upper bound of a VLM that learns to write them.

    Attributes:
        segmenter: decodes the clicks.
        decode: how, see `mask_decoding.DECODE`.
        store: folder of the click store.
        clicks: of each sample, by its id.
    """

    segmenter: "Segmenter"
    decode: str
    store: str
    clicks: Mapping[str, StoredClicks]
    uses_models: ClassVar[bool] = True

    @classmethod
    def load(cls, options: "EvaluateOptions", scan: "DatasetScan") -> "Oracle":
        """Read the click store and load the segmenter."""
        if options.clicks is None:
            raise UsageError("The oracle needs a click store; give --clicks the output of geoclick synth.")
        clicks = _stored_clicks(options, options.clicks, set(scan.ids))
        return cls(_load_segmenter(options), options.decode, options.clicks, clicks)

    def describe(self) -> dict[str, Any]:
        """Click store and segmenter."""
        # Of one part without its parentheses, as earlier versions hashed it.
        named = {
            name: sum(parts, ()) if len(parts) < 2 else parts for name, (_, parts) in self.clicks.items()
        }
        digest = hashlib.sha256(repr(sorted(named.items())).encode()).hexdigest()
        return {
            "clicks": self.store,
            "clicks_sha256": digest,
            **_describe_segmenter(self.segmenter, self.decode),
        }

    def predict(self, samples: Sequence["Sample"], images: Sequence[np.ndarray]) -> list[Prediction]:
        """Decode the samples' stored clicks; raises GeoClickError if they are those of another image."""
        for sample in samples:
            if (image := self.clicks[sample.sample_id].image) != sample.image:
                raise GeoClickError(
                    f"{self.store} has clicks of {sample.sample_id} on {image}, not on {sample.image}; give --clicks "
                    "the store of this dataset."
                )
        parts = [self.clicks[sample.sample_id].parts for sample in samples]
        return _decode(self.segmenter, images, parts, self.decode)


@dataclass(frozen=True)
class CenterPoint:
    """One positive click on the deepest pixel of the true mask: the result of a model that points perfectly."""

    segmenter: "Segmenter"
    decode: str
    uses_models: ClassVar[bool] = True

    @classmethod
    def load(cls, options: "EvaluateOptions", scan: "DatasetScan") -> "CenterPoint":
        """Load the segmenter."""
        return cls(_load_segmenter(options), options.decode)

    def describe(self) -> dict[str, Any]:
        """The segmenter."""
        return _describe_segmenter(self.segmenter, self.decode)

    def predict(self, samples: Sequence["Sample"], images: Sequence[np.ndarray]) -> list[Prediction]:
        """Decode a click at the center of each true mask."""
        parts = [tuple(filter(None, [center_click(sample.mask)])) for sample in samples]
        return _decode(self.segmenter, images, parts, self.decode)


def center_click(mask: np.ndarray) -> ClickSequence:
    """A click on the deepest pixel of a mask, bool [H, W]; none on an empty mask."""
    from geoclick.distance import deepest_pixel

    pixel = deepest_pixel(mask)
    return () if pixel is None else (Click(*pixel),)


@dataclass(frozen=True)
class Box:
    """The bounding box of the true mask as the prompt: the result of a perfect detector."""

    segmenter: "Segmenter"
    decode: str
    uses_models: ClassVar[bool] = True

    @classmethod
    def load(cls, options: "EvaluateOptions", scan: "DatasetScan") -> "Box":
        """Load the segmenter."""
        return cls(_load_segmenter(options), options.decode)

    def describe(self) -> dict[str, Any]:
        """The segmenter."""
        return _describe_segmenter(self.segmenter, self.decode)

    def predict(self, samples: Sequence["Sample"], images: Sequence[np.ndarray]) -> list[Prediction]:
        """Decode the box of each true mask; the empty mask has none."""
        from geoclick.inference.generative.mask_decoding import embed, refusal
        from geoclick.segmenters import clicking

        predictions = [Prediction(np.zeros(sample.size, bool), ()) for sample in samples]
        boxes = {}
        for i, sample in enumerate(samples):
            if error := refusal(sample.size):
                predictions[i] = failed(sample.size, error)
            elif slices := masks.bounding_box(sample.mask):
                rows, columns = slices
                boxes[i] = (columns.start, rows.start, columns.stop - 1, rows.stop - 1)
        embeddings = embed(self.segmenter, [images[i] for i in boxes])
        decoded = clicking.boxed(self.segmenter, embeddings, list(boxes.values()))
        for i, mask in zip(boxes, decoded, strict=True):
            predictions[i] = Prediction(mask, ())
        return predictions


@dataclass(frozen=True)
class Noisy:
    """The true mask with each pixel wrong with probability `noise`, so that the expected scores are known.

    Of a target of T among V valid pixels, on average (1 - p) T stay in the intersection and p (V - T) are added to the
    union: the IoU of all samples together is sum((1 - p) T) / sum(T + p (V - T)). Which pixels are wrong depends on
    seed and sample only.
    """

    noise: float
    seed: int
    uses_models: ClassVar[bool] = False

    @classmethod
    def load(cls, options: "EvaluateOptions", scan: "DatasetScan") -> "Noisy":
        """Take noise and seed from the options."""
        return cls(options.noise, options.seed)

    def describe(self) -> dict[str, Any]:
        """The noise, and no segmenter."""
        return {"noise": self.noise, "segmenter": None}

    def predict(self, samples: Sequence["Sample"], images: Sequence[np.ndarray]) -> list[Prediction]:
        """Flip pixels of the true masks."""
        predictions = []
        for sample in samples:
            key = hashlib.sha256(f"{self.seed}\0{sample.sample_id}".encode()).digest()
            rng = np.random.default_rng(int.from_bytes(key[:16], "little"))
            wrong = rng.random(sample.size, dtype=np.float32) < self.noise
            predictions.append(Prediction(sample.mask ^ wrong, ()))
        return predictions


LOADERS: dict[str, Callable[["ResolvedOptions", "DatasetScan"], Predictor]] = {
    "generative": Generative.load,
    "oracle": Oracle.load,
    "box": Box.load,
    "center-point": CenterPoint.load,
    "noisy": Noisy.load,
    **dict.fromkeys(MAP_PREDICTORS, map_predictors.load),
}


def _on_device(options: "EvaluateOptions") -> "EvaluateOptions":
    """The options with `--device auto` resolved for this process."""
    return replace(options, device=processes.device(options.device))


def _load_segmenter(options: "EvaluateOptions") -> "Segmenter":
    return _on_device(options).load_segmenter()


def _describe_segmenter(segmenter: "Segmenter", decode: str) -> dict[str, Any]:
    from geoclick.segmenters.clicking import Prompting

    return {
        "segmenter": segmenter.name,
        "segmenter_sha256": segmenter.sha256,
        "decode": decode,
        "policy": Prompting().name,
    }


def _stored_clicks(options: "EvaluateOptions", store: str, ids: set[str]) -> dict[str, StoredClicks]:
    """The clicks of the samples with these ids; raises GeoClickError if some are missing."""
    from geoclick.store import read

    clicks = {
        row.sample_id: StoredClicks(row.image, row.sequences)
        for row in read(store)
        if row.sample_id in ids and (row.dataset, row.split) == (options.dataset, options.split)
    }
    if missing := sorted(ids - clicks.keys()):
        raise GeoClickError(
            f"{store} lacks {len(missing)} of {len(ids)} samples, such as {missing[0]}; "
            "run geoclick synth on this split with the same options."
        )
    return clicks


def _decode(
    segmenter: "Segmenter",
    images: Sequence[np.ndarray],
    answers: Sequence[tuple[ClickSequence, ...]],
    decode: str,
) -> list[Prediction]:
    """The prediction of each answer in parts; `failed` where the segmenter cannot take the image."""
    from geoclick.codec import Part
    from geoclick.inference.generative import mask_decoding

    sizes = [(image.shape[0], image.shape[1]) for image in images]
    errors = [mask_decoding.refusal(size) for size in sizes]
    possible = [() if error else parts for error, parts in zip(errors, answers, strict=True)]
    objects = [tuple(Part(clicks) for clicks in parts) for parts in possible]
    if decode == "first":
        objects = [mask_decoding.first_click(parts) for parts in objects]
    decoded = mask_decoding.decode_objects(segmenter, images, objects, decode=decode)
    return [
        failed(size, error)
        if error
        else Prediction(
            one.mask, sum((part.clicks for part in parts), ()), score=one.score, instances=one.instances
        )
        for one, parts, size, error in zip(decoded, objects, sizes, errors, strict=True)
    ]
