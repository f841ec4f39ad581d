"""The predictors of maps: all classes of an image are decided together, and each sample gets the mask of its class."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from geoclick.datasets.class_maps import IGNORED
from geoclick.inference.evaluation import dataset_classes
from geoclick.inference.generative.prediction import MapCounts, Prediction, failed
from geoclick.jobs import processes

if TYPE_CHECKING:
    from geoclick.datasets import Sample
    from geoclick.inference.contrastive.pipeline import ContrastivePipeline
    from geoclick.inference.evaluation.dataset_classes import DatasetClasses
    from geoclick.inference.evaluation.dataset_scan import DatasetScan
    from geoclick.inference.evaluation.options import ResolvedOptions
    from geoclick.yaml_file import Yaml

WHOLE = 2**24
"""A side that no image has: CLIP sees every image complete, as in the published evaluations."""

STATUS = "map"
"""Of predictions that a map was made for."""


@dataclass(frozen=True)
class ClassMap:
    """The map of an image.

    Attributes:
        labels: the class of each pixel, int [H, W].
        coverage: share of the pixels in at least one proposal; None without proposals.
        proposals: their number; None without proposals.
    """

    labels: np.ndarray
    coverage: float | None = None
    proposals: int | None = None


@dataclass(frozen=True)
class MapPredictor:
    """Makes a map of the dataset's classes of each image.

    Attributes:
        classes: of the dataset.
        label: the map of an image, uint8 [H, W, 3], whose true classes are int [H, W] with IGNORED.
        refusal: why an image of a size (height, width) cannot be taken; empty if it can.
        about: what decides the maps.
    """

    classes: "DatasetClasses"
    label: Callable[[np.ndarray, np.ndarray], ClassMap]
    refusal: Callable[[tuple[int, int]], str]
    about: "Mapping[str, Yaml]"
    uses_models: ClassVar[bool] = True

    def describe(self) -> "dict[str, Yaml]":
        """The classes with their prompts and colors, and what decides the maps."""
        prompts = self.classes.prompts
        listed: dict[str, Yaml] = {
            name: {"prompts": list(synonyms), "color": list(color)}
            for name, synonyms, color in zip(
                self.classes.names, prompts.synonyms, prompts.colors, strict=True
            )
        }
        background = prompts.background
        return {
            "classes": listed,
            "background": None if background is None else self.classes.names[background],
            "batches": "complete images with all their classes",
            **self.about,
        }

    def predict(self, samples: "Sequence[Sample]", images: Sequence[np.ndarray]) -> list[Prediction]:
        """The mask of each sample's class in the map of its image."""
        predictions = []
        pairs = zip(samples, images, strict=True)
        for _, group in groupby(pairs, key=lambda pair: pair[0].image):
            own = list(group)
            predictions += self._of_image([sample for sample, _ in own], own[0][1])
        return predictions

    def _of_image(self, samples: "list[Sample]", image: np.ndarray) -> list[Prediction]:
        if error := self.refusal(samples[0].size):
            return [failed(samples[0].size, error) for _ in samples]
        truth = true_classes(samples, self.classes)
        found = self.label(image, truth)
        predictions = []
        for sample in samples:
            number = self.classes.names.index(sample.category)
            counts = _counts(found, truth, number, len(self.classes.names))
            # Of a single class, the pixels of no sample are background.
            if len(samples) == 1 and len(self.classes.names) == 2:
                counts = replace(counts, rest_as=_histogram(found.labels[truth == 1 - number], 2))
            predictions.append(Prediction(found.labels == number, (), status=STATUS, counts=counts))
        return predictions


def true_classes(samples: "Sequence[Sample]", classes: "DatasetClasses") -> np.ndarray:
    """The true class of each pixel of an image, uint8 [H, W], from all samples of it; IGNORED where none is scored."""
    background = classes.prompts.background
    truth = np.full(samples[0].size, IGNORED if background is None else background, np.uint8)
    for sample in samples:
        truth[sample.mask] = classes.names.index(sample.category)
    if samples[0].valid is not None:
        truth[~samples[0].valid] = IGNORED
    return truth


def _counts(found: ClassMap, truth: np.ndarray, number: int, classes: int) -> MapCounts:
    predicted = _histogram(found.labels[truth == number], classes)
    return MapCounts(predicted, coverage=found.coverage, proposals=found.proposals)


def _histogram(labels: np.ndarray, classes: int) -> tuple[int, ...]:
    return tuple(np.bincount(labels, minlength=classes).tolist())


def load(options: "ResolvedOptions", scan: "DatasetScan") -> MapPredictor:
    """The predictor of the options, with its models on this process's device."""
    options = replace(options, device=processes.device(options.device))
    classes = dataset_classes.of_options(options)
    return (_sam3 if options.predictor == "sam3" else _contrastive)(options, classes)


def _contrastive(options: "ResolvedOptions", classes: "DatasetClasses") -> MapPredictor:
    """CLIP's labels, with or without proposals."""
    from geoclick.inference.contrastive import pipeline
    from geoclick.inference.contrastive.cache import GIB, Cache
    from geoclick.inference.contrastive.settings import TILE, settings_of

    oracle = options.predictor == "oracle-proposals"
    method = "contrastive" if oracle else options.predictor
    threshold, source = classes.chosen_threshold(options.threshold, options.dataset)
    settings = settings_of(replace(options, threshold=threshold), tile=WHOLE, overlap=0)
    features = settings.features if method == "contrastive" else method
    if settings.class_bias is None and classes.class_bias is not None and features in (None, "segearth-ov"):
        settings = replace(settings, class_bias=classes.class_bias)
    loaded = pipeline.load(
        classes.prompts,
        method,
        clip=options.clip,
        clip_checkpoint=options.clip_checkpoint,
        segmenter=options.segmenter,
        checkpoint=options.checkpoint,
        device=options.device,
        settings=replace(settings, proposal_window=TILE),
    )
    if options.cache:
        loaded = replace(loaded, cache=Cache(Path(options.cache), limit=round(options.cache_limit * GIB)))

    def label(image: np.ndarray, truth: np.ndarray) -> ClassMap:
        found = loaded.label(image, truth if oracle else None)
        return ClassMap(found.labels, found.coverage, found.proposals)

    about = {key: value for key, value in loaded.describe().items() if key not in ("tile", "overlap")}
    about |= {"clip_sees": "complete images", "threshold_source": source}
    if oracle:
        about["select"] = "majority true class"
    return MapPredictor(classes, label, lambda size: _refusal(loaded, size), about)


def _refusal(pipeline: "ContrastivePipeline", size: tuple[int, int]) -> str:
    """Why the models cannot take an image of a size (height, width), in one sentence; empty if they can."""
    from geoclick.inference.contrastive.vision_transformer import patch_size
    from geoclick.inference.generative import mask_decoding

    side = patch_size(pipeline.clip.model)
    if min(size) < side:
        return f"An image of {size[1]}x{size[0]} pixels is smaller than a patch of {side}x{side}; give a larger image."
    return mask_decoding.refusal(size) if pipeline.segmenter else ""


def _sam3(options: "ResolvedOptions", classes: "DatasetClasses") -> MapPredictor:
    """SAM 3 with the prompts of the classes."""
    from geoclick.inference.contrastive import sam3
    from geoclick.inference.generative import mask_decoding

    model = sam3.load(options.sam3 or "", options.device)
    threshold, source = sam3.THRESHOLD, "default"
    if options.threshold is not None:
        # Published thresholds are those of CLIP.
        threshold, source = classes.chosen_threshold(options.threshold, options.dataset)[0], "tuned"
    elif classes.prompts.background is None:
        threshold, source = 0.0, "none"

    def label(image: np.ndarray, truth: np.ndarray) -> ClassMap:
        return ClassMap(model.label_map(image, classes.prompts, threshold)[0])

    about: dict[str, Yaml] = {
        "sam3": model.name,
        "sam3_sha256": model.sha256,
        "sam3_tile": sam3.TILE,
        "sam3_overlap": sam3.OVERLAP,
        "instance_score": sam3.INSTANCE_SCORE,
        "threshold": threshold,
        "threshold_source": source,
        "segmenter": None,
    }
    return MapPredictor(classes, label, mask_decoding.refusal, about)
