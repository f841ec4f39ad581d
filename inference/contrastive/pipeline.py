"""Classes and an image to a map of classes, without training, from Python.

from geoclick.inference.contrastive.pipeline import load

pipeline = load("building, roof; road; water")
prediction = pipeline.predict("tile.png")
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geoclick import files, segmenters
from geoclick.clips.loading import Clip, load_clip
from geoclick.clips.templates import TEMPLATES
from geoclick.clips.text_embeddings import text_embeddings
from geoclick.errors import GeoClickError
from geoclick.inference.contrastive import classes as class_lists
from geoclick.inference.contrastive import (
    dense,
    dense_map,
    feature_cache,
    proposal_cache,
    region_crops,
    selection,
    upsampler,
    windowed,
)
from geoclick.inference.contrastive.blending import Blend
from geoclick.inference.contrastive.cache import Cache
from geoclick.inference.contrastive.classes import ClassList
from geoclick.inference.contrastive.dense_map import DenseMap
from geoclick.inference.contrastive.prediction import SemanticPrediction
from geoclick.inference.contrastive.proposals import Proposal
from geoclick.inference.contrastive.regions import PaintingRules, Regions
from geoclick.inference.contrastive.settings import OF_PROPOSALS, ContrastiveSettings, completed
from geoclick.inference.contrastive.upsampler import JointBilateralUpsampler
from geoclick.inference.contrastive.windowed import Source, WindowMap
from geoclick.inference.pipeline import ImageSource, as_array
from geoclick.segmenters.base import Segmenter
from geoclick.yaml_file import Yaml

SHARE = 0.5
"""With one class, a proposal belongs to it if more than this share of its pixels has its label."""

DESCRIBED_WITH_PROPOSALS = (*OF_PROPOSALS, "proposal_window")


@dataclass(frozen=True, eq=False)
class LabelMap:
    """The classes of an image, as in SemanticPrediction, with CLIP's logits in place of the probabilities."""

    labels: np.ndarray
    dense: DenseMap
    coverage: float | None = None
    proposals: int | None = None


@dataclass(frozen=True, eq=False)
class ContrastivePipeline:
    """The models of the training-free pipeline, loaded.

    Attributes:
        classes: the class list, with a background.
        method: one of `options.METHODS`.
        clip: labels the pixels.
        text: embeddings of the classes' names, float32 [Q, D].
        segmenter: makes the proposals; None for another method than contrastive.
        settings: complete, without None.
        upsampler: of CLIP's features, or None.
        upsampler_sha256: hash of its file, or empty.
        cache: of proposals and features; None stores none.
    """

    classes: ClassList
    method: str
    clip: Clip
    text: Tensor
    segmenter: Segmenter | None
    settings: ContrastiveSettings
    upsampler: JointBilateralUpsampler | None = None
    upsampler_sha256: str = ""
    cache: Cache | None = None

    @property
    def selection(self) -> str:
        """The rule that decides a map: `dense`, `share` (one class and vote) or that of the settings."""
        if self.segmenter is None:
            return "dense"
        return (
            "share" if self.settings.select == "vote" and self._target is not None else self.settings.select
        )

    @property
    def _target(self) -> int | None:
        """The class besides the background if there is one only."""
        background = self.classes.background
        return None if background is None or len(self.classes.names) != 2 else 1 - background

    def predict(self, image: ImageSource) -> SemanticPrediction:
        """The classes of an image.

        Raises:
            GeoClickError: the image cannot be read, or the models cannot take it.
        """
        found = self.label(as_array(image))
        confidence = found.dense.confidence(found.labels)
        return SemanticPrediction(found.labels, confidence, found.coverage, found.proposals)

    def label(self, image: np.ndarray, truth: np.ndarray | None = None) -> LabelMap:
        """The classes of an image without their probabilities, or the upper bound of a selection.

        Args:
            image: uint8 [H, W, 3] RGB.
            truth: the true class of each pixel, int [H, W], 255 where it is ignored: each proposal takes its majority
                true class (`selection.oracle_proposals`), by the same rules for overlaps and uncovered pixels.

        Raises:
            GeoClickError: the models cannot take the image.
        """
        dense_map = self.dense_map(image)
        settings = self.settings
        labels = dense_map.labels(threshold=settings.threshold, background=self.classes.background or 0)
        if self.segmenter is None:
            return LabelMap(labels, dense_map)
        regions = self.regions(image)
        if truth is None:
            selected = self.select(image, labels, regions, dense_map.probabilities)
        else:
            selected = self.oracle(truth, labels, regions)
        return LabelMap(selected, dense_map, regions.coverage(), len(regions))

    def windows(self, source: Source) -> Iterator[WindowMap]:
        """The classes of a large image window by window, as `predict` gives them for the complete image.

        Raises:
            GeoClickError: the image cannot be read, or the models cannot take it.
        """
        settings = self.settings
        if self.selection == "pool":
            self._check_one_window(source.size)
        blend = Blend(
            source.size,
            lambda window: self._logits(source.read(window)[0]),
            dense.enlarge,
            tile=settings.tile,
            overlap=settings.overlap,
        )
        side = settings.proposals().window
        return windowed.maps(source, side, blend.at, self._decide)

    def _decide(self, image: np.ndarray, logits: Tensor) -> SemanticPrediction:
        """The classes of a window, uint8 [H, W, 3], from its blended logits [Q, H, W]."""
        settings = self.settings
        probabilities = dense.class_probabilities(logits, self.classes, scale=settings.scale)
        highest, best = probabilities.max(dim=0)
        labels = dense_map.above(
            best.int().cpu().numpy(),
            highest.cpu().numpy(),
            threshold=settings.threshold,
            background=self.classes.background or 0,
        )
        coverage = number = None
        if self.segmenter is not None:
            regions = self.regions(image)
            coverage, number = regions.coverage(), len(regions)
            labels = self.select(image, labels, regions, lambda: probabilities.half().cpu())
        chosen = torch.as_tensor(labels, dtype=torch.int64, device=probabilities.device)
        confidence = probabilities.gather(0, chosen[None])[0].cpu().numpy()
        return SemanticPrediction(labels, confidence, coverage, number)

    def dense_map(self, image: np.ndarray) -> DenseMap:
        """CLIP's labels and probabilities of an image, uint8 [H, W, 3]."""
        settings = self.settings
        cut = {"tile": settings.tile, "overlap": settings.overlap}
        return DenseMap(image, self._logits, self.classes, scale=settings.scale, **cut)

    def regions(self, image: np.ndarray) -> Regions:
        """The proposals of an image; without a segmenter there are none."""
        proposals: list[Proposal] = []
        if self.segmenter is not None:
            proposals = proposal_cache.cached(self.cache, self.segmenter, image, self.settings.proposals())
        return Regions(proposals, (image.shape[0], image.shape[1]))

    def oracle(self, truth: np.ndarray, labels: np.ndarray, regions: Regions) -> np.ndarray:
        """The majority true class of each proposal, int32 [H, W]; see `label`."""
        return selection.oracle_proposals(truth, regions, self.classes, self.rules, labels=labels)

    @property
    def rules(self) -> PaintingRules:
        """The rules of the settings; with one class, uncovered pixels are background."""
        rules = replace(self.settings.rules, background=self.classes.background or 0)
        return replace(rules, uncovered="background") if self.selection == "share" else rules

    def _logits(self, tile: np.ndarray) -> Tensor:
        clip, method, options = self.clip, self.settings.features or "", self._windows
        features = feature_cache.windows(self.cache, clip, tile, method, options)
        return dense.small_logits(clip.model, tile, self.text, method, options, self.upsampler, features)

    @property
    def _windows(self) -> dense.WindowOptions:
        bias = self.settings.class_bias or 0.0
        return dense.WindowOptions(class_bias=bias, mean=self.clip.mean, std=self.clip.std)

    def select(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        regions: Regions,
        probabilities: Callable[[], Tensor],
    ) -> np.ndarray:
        """The class of each pixel by the rules of the settings.

        Args:
            image: uint8 [H, W, 3] RGB.
            labels: CLIP's, int [H, W].
            regions: the proposals.
            probabilities: computes those of the classes, [C, H, W].

        Returns:
            int32 [H, W].
        """
        classes, rules, name = self.classes, self.rules, self.selection
        if name == "soft-vote":
            return selection.soft_vote(probabilities(), regions, rules, labels)
        if name in region_crops.SELECTIONS:
            background = region_crops.SELECTIONS[name]
            crops = feature_cache.crops(self.cache, self.clip, image, regions.proposals, background)
            cosines = region_crops.cosines(crops, self.text)
            return selection.by_query(cosines, classes, regions, labels, rules)
        if name == "pool":
            return selection.pool(self._features(image), self.text, classes, regions, labels, rules)
        target = self._target
        if target is None:
            return selection.vote(labels, regions, classes, rules)
        union = selection.share(labels, regions, target=target, threshold=SHARE)
        return np.where(union, target, 1 - target).astype(np.int32)

    def _features(self, image: np.ndarray) -> Tensor:
        """The features [h, w, D] of a complete image in one window."""
        self._check_one_window((image.shape[0], image.shape[1]))
        return feature_cache.whole(self.cache, self.clip, image, self.settings.features or "", self._windows)

    def _check_one_window(self, size: tuple[int, int]) -> None:
        """Raise GeoClickError unless an image of a size (height, width) fits a tile."""
        if max(size) > self.settings.tile:
            raise GeoClickError(
                f"The selection 'pool' takes images of at most {self.settings.tile} pixels a side, not "
                f"{size[1]}x{size[0]}; use vote or soft-vote."
            )

    def describe(self) -> dict[str, Yaml]:
        """The models with their hashes and all settings, for records."""
        settings: dict[str, Yaml] = asdict(self.settings)
        rules = asdict(self.settings.rules)
        windows = dense.WindowOptions()
        frozen = self.segmenter
        record: dict[str, Yaml] = settings | {
            "method": self.method,
            "clip": self.clip.name,
            "clip_fingerprint": self.clip.fingerprint,
            "upsample_sha256": self.upsampler_sha256 or None,
            "long_side": windows.long_side,
            "window": windows.window,
            "stride": windows.stride,
            "synonyms": "max",
            "select": self.selection,
            "segmenter": frozen.name if frozen else None,
            "segmenter_sha256": frozen.sha256 if frozen else None,
        }
        del record["rules"]
        if self.segmenter is None:
            return {key: value for key, value in record.items() if key not in DESCRIBED_WITH_PROPOSALS}
        if self.settings.proposal_window is None:
            del record["proposal_window"]
        record["box_nms"] = self.settings.proposals().box_nms
        if self.selection == "share":
            return record | {"share": SHARE, "uncovered": "background"}
        return record | {"overlaps": rules["overlaps"], "uncovered": rules["uncovered"]}


def load(
    classes: str | ClassList,
    method: str = "contrastive",
    *,
    clip: str = "embedded",
    clip_checkpoint: str | Path | None = None,
    segmenter: str = "embedded",
    checkpoint: str | Path | None = None,
    device: str = "auto",
    settings: ContrastiveSettings | None = None,
) -> ContrastivePipeline:
    """Load the models.

    Args:
        classes: such as "building, roof; road; water", the path of a class file, or a class list; `background` is
            added to a single class.
        method: `contrastive`, or the dense labels of one method of `dense_features`.
        clip: `embedded`, a folder, a hub id, or with a checkpoint an architecture of open_clip.
        clip_checkpoint: weight file of open_clip.
        segmenter: as in `geoclick.segmenters.load`; only `contrastive` loads it.
        checkpoint: weights of a segmenter of segment-anything, a `.pth` file.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        settings: what decides the map; None takes the defaults.

    Raises:
        GeoClickError: a model or the class file is missing or unreadable.
        UsageError: an unknown name, a wrong class list, or settings that do not go together.
    """
    if isinstance(classes, str):
        classes = class_lists.from_option(classes)
    classes = class_lists.with_background(classes)
    settings = settings or ContrastiveSettings()
    settings.check(classes, method)
    frozen = None
    if method == "contrastive":
        frozen = segmenters.load(segmenter, checkpoint=checkpoint, device=device)
    model = load_clip(clip, clip_checkpoint, device)
    complete = completed(settings, method, model, embedded_segmenter=segmenter == "embedded")
    return assemble(classes, method, model, frozen, complete)


def assemble(
    classes: ClassList,
    method: str,
    clip: Clip,
    segmenter: Segmenter | None,
    settings: ContrastiveSettings,
    cache: Cache | None = None,
) -> ContrastivePipeline:
    """The pipeline of loaded models.

    Args:
        classes: with a background if there is one class only.
        method: see `load`.
        clip: labels the pixels.
        segmenter: makes the proposals; None for another method than contrastive.
        settings: complete.
        cache: of text embeddings, proposals and features.

    Raises:
        GeoClickError: a query is too long for the CLIP, or the feature upsampler is unreadable or of another CLIP.
    """
    templates, texts = TEMPLATES[settings.templates or ""], None if cache is None else cache.folder / "texts"
    text = text_embeddings(clip, classes.queries, templates, cache=texts)
    filters, sha256 = None, ""
    if settings.upsample is not None:
        path = Path(settings.upsample)
        filters, sha256 = upsampler.load(path, clip.model.device), files.sha256(path)
        if filters.dim != text.shape[1]:
            raise GeoClickError(
                f"{path} upsamples features of size {filters.dim}, but those of the CLIP have {text.shape[1]}; use it "
                "with the CLIP that it was trained for, such as ViT-B/16, or drop --upsample."
            )
    return ContrastivePipeline(classes, method, clip, text, segmenter, settings, filters, sha256, cache)
