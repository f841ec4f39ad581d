"""Classes and an image to a map of classes, without training, from Python.

from geoclick.inference.contrastive.pipeline import load

pipeline = load("building, roof; road; water")
prediction = pipeline.predict("tile.png")
"""

from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path

import numpy as np
from torch import Tensor

from geoclick import files, segmenters
from geoclick.clips.loading import Clip, load_clip
from geoclick.clips.templates import TEMPLATES
from geoclick.clips.text_embeddings import text_embeddings
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.contrastive import classes as class_lists
from geoclick.inference.contrastive import dense, proposal_cache, selection, upsampler
from geoclick.inference.contrastive.classes import ClassList
from geoclick.inference.contrastive.dense_map import SCALE, DenseMap
from geoclick.inference.contrastive.proposals import Proposal, ProposalSettings, propose_with
from geoclick.inference.contrastive.regions import PaintingRules
from geoclick.inference.contrastive.resizing import resize
from geoclick.inference.contrastive.upsampler import JointBilateralUpsampler
from geoclick.inference.contrastive.vision_transformer import patch_size
from geoclick.inference.pipeline import ImageSource, as_array
from geoclick.options import DENSE_METHODS, METHODS, SELECTIONS, ClipOptions
from geoclick.segmenters.base import Segmenter
from geoclick.yaml_file import Yaml

CLASS_BIAS = -0.3
"""Of SegEarth-OV's features, as published."""

SHARE = 0.5
"""With one class, a proposal belongs to it if more than this share of its pixels has its label."""

EMBEDDED_LIMITS = (0.2, 0.8)
"""Predicted IoU and stability; SAM's limits leave few masks of the embedded SAM."""

SAM_LIMITS = (ProposalSettings.predicted_iou, ProposalSettings.stability)

OF_PROPOSALS = ("points_per_side", "predicted_iou", "stability")
"""Settings without a meaning for dense labels."""

DESCRIBED_WITH_PROPOSALS = (*OF_PROPOSALS, "proposal_window")

TILE, OVERLAP = 1024, 128
"""Pixels."""


@dataclass(frozen=True, kw_only=True)
class ContrastiveSettings:
    """What decides a map besides the models and classes; None takes the default of the models.

    Attributes:
        features: a method of `dense_features`; clearclip for the embedded CLIP, else segearth-ov.
        class_bias: factor of the class token's cosines; -0.3 for segearth-ov, 0 for the embedded CLIP and SigLIP.
        templates: a key of `TEMPLATES`; aerial for the embedded CLIP, else imagenet.
        threshold: pixels whose largest probability is below it become background.
        select: how a proposal takes its class, one of SELECTIONS.
        points_per_side: clicks along each side of an image, or of a tile.
        predicted_iou: limit of proposals; 0.2 for the embedded SAM, else 0.88.
        stability: limit of proposals; 0.8 for the embedded SAM, else 0.95.
        upsample: file of SegEarth-OV's feature upsampler, or None.
        tile: side in pixels of the tiles that larger images are cut to.
        overlap: smallest overlap of neighboring tiles in pixels; proposals are made in tiles without overlap.
        proposal_window: side in pixels of the tiles in which proposals are made; None for `tile`.
        rules: for overlaps of proposals and uncovered pixels.
    """

    features: str | None = None
    class_bias: float | None = None
    templates: str | None = None
    threshold: float = 0.0
    select: str = "vote"
    points_per_side: int = 29
    predicted_iou: float | None = None
    stability: float | None = None
    upsample: str | None = None
    tile: int = TILE
    overlap: int = OVERLAP
    proposal_window: int | None = None
    rules: PaintingRules = field(default_factory=PaintingRules)

    def check(self, classes: ClassList, method: str) -> None:
        """Raise UsageError for values that do not go together or are out of their range."""
        for value, known, name in (
            (method, METHODS, "method"),
            (self.features, DENSE_METHODS, "features"),
            (self.templates, tuple(TEMPLATES), "templates"),
            (self.select, SELECTIONS, "selection"),
        ):
            if value is not None and value not in known:
                raise UsageError(f"Unknown {name} {value!r}; use one of {', '.join(known)}.")
        if method != "contrastive" and self.features not in (None, method):
            raise UsageError(
                f"The method {method!r} has its own features; use {self.features!r} with contrastive."
            )
        for name in ("select", *OF_PROPOSALS):
            if method != "contrastive" and getattr(self, name) != getattr(ContrastiveSettings, name):
                raise UsageError(f"{name} goes with the method contrastive, not {method!r}; remove it.")
        if self.class_bias is not None and not isfinite(self.class_bias):
            raise UsageError(f"The class bias must be a finite number, not {self.class_bias}.")
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"The threshold must be from 0 to 1, not {self.threshold}.")
        if self.threshold and classes.background is None:
            raise UsageError(
                "A threshold gives pixels to the class `background`, which the class list lacks; add it to the list."
            )
        if not 0 <= self.overlap < self.tile:
            raise UsageError(
                f"The overlap must be from 0 to below the tile of {self.tile}, not {self.overlap}."
            )
        self.proposals().check()
        self.rules.check()

    def proposals(self) -> ProposalSettings:
        """The settings of proposals; SAM's limits in place of None."""
        return ProposalSettings(
            points_per_side=self.points_per_side,
            predicted_iou=SAM_LIMITS[0] if self.predicted_iou is None else self.predicted_iou,
            stability=SAM_LIMITS[1] if self.stability is None else self.stability,
            window=self.proposal_window or self.tile,
        )


@dataclass(frozen=True, eq=False)
class SemanticPrediction:
    """The classes of an image.

    Attributes:
        labels: the class of each pixel, int32 [H, W].
        confidence: CLIP's probability of that class at each pixel, float32 [H, W].
        coverage: share of the pixels in at least one proposal; None without proposals.
        proposals: their number; None without proposals.
    """

    labels: np.ndarray
    confidence: np.ndarray
    coverage: float | None = None
    proposals: int | None = None


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
        cache: folder in which proposals are stored by content; None stores none.
    """

    classes: ClassList
    method: str
    clip: Clip
    text: Tensor
    segmenter: Segmenter | None
    settings: ContrastiveSettings
    upsampler: JointBilateralUpsampler | None = None
    upsampler_sha256: str = ""
    cache: Path | None = None

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
        confidence = found.dense.confidence(self.classes, found.labels)
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
        settings, classes = self.settings, self.classes
        dense_map = DenseMap(image, self._logits, tile=settings.tile, overlap=settings.overlap)
        labels = dense_map.labels(classes, threshold=settings.threshold, background=classes.background or 0)
        if self.segmenter is None:
            return LabelMap(labels, dense_map)
        proposals = self._propose(self.segmenter, image)
        if truth is None:
            selected = self._select(image, dense_map, labels, proposals)
        else:
            selected = selection.oracle_proposals(truth, proposals, classes, self._rules, labels=labels)
        covered = selection.coverage(proposals, (image.shape[0], image.shape[1]))
        return LabelMap(selected, dense_map, covered, len(proposals))

    def _propose(self, segmenter: Segmenter, image: np.ndarray) -> list[Proposal]:
        settings = self.settings.proposals()
        if self.cache is None:
            return propose_with(segmenter, image, settings)
        return proposal_cache.cached(self.cache, segmenter, image, settings)

    @property
    def _rules(self) -> PaintingRules:
        """The rules of the settings; with one class, uncovered pixels are background."""
        rules = replace(self.settings.rules, background=self.classes.background or 0)
        return replace(rules, uncovered="background") if self.selection == "share" else rules

    def _logits(self, tile: np.ndarray) -> Tensor:
        options = dense.WindowOptions(
            class_bias=self.settings.class_bias or 0.0, mean=self.clip.mean, std=self.clip.std
        )
        features = self.settings.features or ""
        return dense.small_logits(self.clip.model, tile, self.text, features, options, self.upsampler)

    def _select(
        self, image: np.ndarray, dense_map: DenseMap, labels: np.ndarray, proposals: list[Proposal]
    ) -> np.ndarray:
        classes, rules = self.classes, self._rules
        if self.selection == "soft-vote":
            return selection.soft_vote(dense_map.probabilities(classes), proposals, rules, labels)
        if self.selection == "pool":
            return selection.pool(self._features(image), self.text, classes, proposals, labels, rules)
        target = self._target
        if target is None:
            return selection.vote(labels, proposals, classes, rules)
        union = selection.share(labels, proposals, target=target, threshold=SHARE)
        return np.where(union, target, 1 - target).astype(np.int32)

    def _features(self, image: np.ndarray) -> Tensor:
        """The features [h, w, D] of a complete image in one window."""
        if max(image.shape[:2]) > self.settings.tile:
            raise GeoClickError(
                f"The selection 'pool' takes images of at most {self.settings.tile} pixels a side, not "
                f"{image.shape[1]}x{image.shape[0]}; use vote or soft-vote."
            )
        options = dense.WindowOptions(mean=self.clip.mean, std=self.clip.std)
        side = patch_size(self.clip.model)
        scale = options.long_side / max(image.shape[:2])
        height, width = (max(side, round(length * scale / side) * side) for length in image.shape[:2])
        pixels = dense.normalized(resize(image, (height, width)), self.clip.model, options)
        batch = pixels[None].to(self.clip.model.device)
        return dense.dense_features(self.clip.model, batch, self.settings.features or "")[0][0]

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
            "scale": SCALE,
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
        segmenter: `embedded`, or a name with a checkpoint; only `contrastive` loads it.
        checkpoint: weights of the segmenter, a `.pth` file.
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
    complete = _complete(settings, method, model, embedded_segmenter=segmenter == "embedded")
    text = text_embeddings(model, classes.queries, TEMPLATES[complete.templates or ""])
    if complete.upsample is None:
        return ContrastivePipeline(classes, method, model, text, frozen, complete)
    path = Path(complete.upsample)
    filters = upsampler.load(path, model.model.device)
    if filters.dim != text.shape[1]:
        raise GeoClickError(
            f"{path} upsamples features of size {filters.dim}, but those of the CLIP have {text.shape[1]}; use it with "
            "the CLIP that it was trained for, such as ViT-B/16, or drop --upsample."
        )
    return ContrastivePipeline(classes, method, model, text, frozen, complete, filters, files.sha256(path))


def settings_of(options: ClipOptions, *, tile: int | None, overlap: int) -> ContrastiveSettings:
    """The settings in a command's options."""
    return ContrastiveSettings(
        features=options.features,
        class_bias=options.class_bias,
        templates=options.templates,
        threshold=options.threshold or 0.0,
        select=options.select,
        points_per_side=options.points_per_side,
        predicted_iou=options.predicted_iou,
        stability=options.stability_score,
        upsample=options.upsample,
        tile=tile or TILE,
        overlap=overlap,
    )


def _complete(
    settings: ContrastiveSettings, method: str, clip: Clip, *, embedded_segmenter: bool
) -> ContrastiveSettings:
    """The settings with the defaults of the models in place of None."""
    embedded = clip.name == "embedded"
    features = method
    if method == "contrastive":
        features = settings.features or ("clearclip" if embedded else "segearth-ov")
    bias = CLASS_BIAS if features == "segearth-ov" and not embedded and not clip.is_siglip else 0.0
    limits = EMBEDDED_LIMITS if embedded_segmenter else SAM_LIMITS
    return replace(
        settings,
        features=features,
        class_bias=bias if settings.class_bias is None else settings.class_bias,
        templates=settings.templates or ("aerial" if embedded else "imagenet"),
        predicted_iou=limits[0] if settings.predicted_iou is None else settings.predicted_iou,
        stability=limits[1] if settings.stability is None else settings.stability,
    )
