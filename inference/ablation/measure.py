"""The measurement of a setting on the images of an ablation, from stored proposals and features where there are any."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict, TypeVar

import numpy as np

from geoclick import segmenters
from geoclick.clips.loading import Clip, load_clip
from geoclick.datasets.class_maps import IGNORED
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.ablation.plan import DENSE, ORACLE, Model, Setting
from geoclick.inference.contrastive import dense_map, pipeline
from geoclick.inference.contrastive.cache import Cache
from geoclick.inference.contrastive.pipeline import ContrastivePipeline
from geoclick.inference.contrastive.regions import Regions
from geoclick.inference.contrastive.settings import completed
from geoclick.inference.evaluation.map_predictors import true_classes
from geoclick.scoring.semantic import SemanticScores
from geoclick.segmenters.base import Segmenter
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from geoclick.datasets import Sample
    from geoclick.inference.evaluation.dataset_classes import DatasetClasses

Held = TypeVar("Held", np.ndarray, Regions, tuple[np.ndarray, np.ndarray])

Array = np.ndarray | Regions | tuple[np.ndarray, np.ndarray]

MEMORY = 2**30
"""Bytes of arrays that stay in memory from one setting to the next."""


class Row(TypedDict):
    """The result of a setting; scores as in geoclick/scoring/semantic.py.

    Attributes:
        setting: everything that decides the maps, with the hashes of the models.
        miou: mean IoU over the classes.
        miou_interval: 95 % bootstrap interval over images.
        per_class: IoU of each class; None for one that is in no target and no map.
        coverage: share of the pixels in at least one proposal, mean over the images; None without proposals.
        proposals: their mean number; None without.
        images: their number.
        seconds: wall time of the measurement.
        cpu_seconds: of all threads of the process.
        computed: proposals and features of an image that were computed.
        read: those that were found in the cache.
    """

    setting: dict[str, Yaml]
    miou: float | None
    miou_interval: list[float] | None
    per_class: dict[str, float | None]
    coverage: float | None
    proposals: float | None
    images: int
    seconds: float
    cpu_seconds: float
    computed: int
    read: int


class Memory:
    """Values by their key; the ones that were used least recently are dropped above a number of bytes."""

    def __init__(self, limit: int = MEMORY) -> None:
        self.limit, self.size = limit, 0
        self._values: OrderedDict[Hashable, tuple[Array, int]] = OrderedDict()

    def value(self, key: Hashable, compute: Callable[[], Held], size: Callable[[Held], int]) -> Held:
        """The value of a key; it is computed if it is not held. `size` is its number of bytes."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key][0]  # type: ignore[return-value]  # a key has values of one type
        value = compute()
        self._values[key] = value, size(value)
        self.size += size(value)
        while self.size > self.limit and len(self._values) > 1:
            self.size -= self._values.popitem(last=False)[1][1]
        return value


class Models:
    """The CLIPs and segmenters of an ablation, each loaded once.

    Args:
        classes: of the dataset.
        cache: of proposals, features and text embeddings.
        device: of the models.
    """

    def __init__(self, classes: "DatasetClasses", cache: Cache, device: str) -> None:
        self.classes, self.cache, self.device = classes, cache, device
        self._clips: dict[Model, Clip] = {}
        self._segmenters: dict[Model, Segmenter] = {}

    def clip(self, model: Model) -> Clip:
        """A CLIP."""
        if model not in self._clips:
            self._clips[model] = load_clip(model.name, model.checkpoint, self.device)
        return self._clips[model]

    def segmenter(self, model: Model) -> Segmenter:
        """A segmenter."""
        if model not in self._segmenters:
            loaded = segmenters.load(model.name, checkpoint=model.checkpoint, device=self.device)
            self._segmenters[model] = loaded
        return self._segmenters[model]

    def complete(self, setting: Setting) -> Setting:
        """The setting with the defaults of its models and of the dataset in place of None."""
        clip, own = self.clip(setting.clip), setting.settings
        embedded = setting.segmenter.name == "embedded"
        settings = completed(own, "contrastive", clip, embedded_segmenter=embedded)
        published = self.classes.class_bias
        if own.class_bias is None and published is not None and settings.features == "segearth-ov":
            settings = replace(settings, class_bias=published)
        return replace(setting, settings=settings)

    def pipeline(self, setting: Setting) -> ContrastivePipeline:
        """The pipeline of a complete setting.

        Raises:
            UsageError: a value is out of its range, or has no meaning for the CLIP.
        """
        own, prompts = setting.settings, self.classes.prompts
        own = own if setting.select in (DENSE, ORACLE) else replace(own, select=setting.select)
        own.check(prompts, "contrastive")
        clip = self.clip(setting.clip)
        if clip.is_siglip and own.class_bias:
            raise UsageError(f"{clip.name} is a SigLIP without a class token; set --class-bias to 0.")
        if setting.select == DENSE:
            return pipeline.assemble(prompts, own.features or "", clip, None, own, self.cache)
        segmenter = self.segmenter(setting.segmenter)
        return pipeline.assemble(prompts, "contrastive", clip, segmenter, own, self.cache)


def describe(loaded: ContrastivePipeline, setting: Setting) -> dict[str, Yaml]:
    """Everything that decides the maps of a setting, equal for equal maps."""
    record = loaded.describe()
    if setting.select == ORACLE:
        rules = loaded.rules
        return record | {"select": ORACLE, "overlaps": rules.overlaps, "uncovered": rules.uncovered}
    return record


@dataclass(frozen=True, eq=False)
class Measurement:
    """Images with their true classes, and what earlier settings have left in memory.

    Attributes:
        images: the samples of each image.
        models: with the classes and the cache.
        memory: of images, labels and proposals.
        seed: of the intervals.
    """

    images: "Sequence[list[Sample]]"
    models: Models
    memory: Memory
    seed: int = 0

    def row(self, loaded: ContrastivePipeline, setting: Setting) -> Row:
        """Measure one setting.

        Args:
            loaded: its pipeline.
            setting: complete.

        Raises:
            GeoClickError: an image cannot be read, or the models cannot take it; the error names the image.
        """
        cache = self.models.cache
        started, cpu, made, read = time.perf_counter(), time.process_time(), cache.made, cache.read
        scores, covered = SemanticScores(), []
        for number, samples in enumerate(self.images):
            try:
                labels, regions = self._labels(number, loaded, setting)
            except GeoClickError as error:
                raise GeoClickError(f"{samples[0].image}: {error}") from error
            count(scores, samples, labels, self._truth(number), self.models.classes.names)
            if regions is not None:
                covered.append((regions.coverage(), len(regions)))
        result = scores.result(self.seed)
        coverage, proposals = np.mean(covered, axis=0).tolist() if covered else (None, None)
        return {
            "setting": describe(loaded, setting),
            "miou": result["miou"],
            "miou_interval": result["miou_interval"],
            "per_class": result["per_class"],
            "coverage": coverage,
            "proposals": proposals,
            "images": len(self.images),
            "seconds": round(time.perf_counter() - started, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
            "computed": cache.made - made,
            "read": cache.read - read,
        }

    def _labels(
        self, number: int, loaded: ContrastivePipeline, setting: Setting
    ) -> tuple[np.ndarray, Regions | None]:
        """The map of an image, int [H, W], and its proposals."""
        own = loaded.settings
        best = self._best(number, loaded, setting)
        background = loaded.classes.background or 0
        labels = dense_map.above(*best, threshold=own.threshold, background=background)
        if loaded.segmenter is None:
            return labels, None
        key = ("regions", number, setting.segmenter, own.proposals())
        regions = self.memory.value(key, lambda: loaded.regions(self._image(number)), _region_bytes)
        if setting.select == ORACLE:
            return loaded.oracle(self._truth(number), labels, regions), regions
        image = self._image(number)
        return loaded.select(image, labels, regions, lambda: loaded.dense_map(image).probabilities()), regions

    def _best(
        self, number: int, loaded: ContrastivePipeline, setting: Setting
    ) -> tuple[np.ndarray, np.ndarray]:
        """CLIP's most probable class of each pixel of an image, uint8, and its probability."""
        own = loaded.settings
        dense = own.features, own.templates, own.class_bias, own.scale, own.upsample

        def compute() -> tuple[np.ndarray, np.ndarray]:
            chosen, highest = loaded.dense_map(self._image(number)).best()
            return chosen.astype(np.uint8), highest

        return self.memory.value(
            ("best", number, setting.clip, *dense), compute, lambda pair: pair[0].nbytes + pair[1].nbytes
        )

    def _image(self, number: int) -> np.ndarray:
        compute = self.images[number][0].read_image
        return self.memory.value(("image", number), compute, lambda image: image.nbytes)

    def _truth(self, number: int) -> np.ndarray:
        samples, classes = self.images[number], self.models.classes
        return self.memory.value(
            ("truth", number), lambda: true_classes(samples, classes), lambda truth: truth.nbytes
        )


def count(
    scores: SemanticScores,
    samples: "Sequence[Sample]",
    labels: np.ndarray,
    truth: np.ndarray,
    names: Sequence[str],
) -> None:
    """Count the pixels of an image for each class that is a sample of it.

    Args:
        scores: of the set.
        samples: of the image.
        labels: the map, int [H, W].
        truth: the true classes, int [H, W], IGNORED where they are not scored.
        names: of the classes.
    """
    valid, classes = truth != IGNORED, len(names)
    pairs = truth[valid].astype(np.int64) * classes + labels[valid]
    matrix = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    for sample in samples:
        number = names.index(sample.category)
        both = int(matrix[number, number])
        scores.count(
            sample.image, sample.category, both, int(matrix[number].sum() + matrix[:, number].sum()) - both
        )


def _region_bytes(regions: Regions) -> int:
    return 2 * (regions.starts.nbytes + regions.ends.nbytes + regions.owner.nbytes)
