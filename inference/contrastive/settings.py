"""The settings of a map of classes, and their defaults, which depend on the models."""

from dataclasses import dataclass, field, replace
from math import isfinite

from geoclick.clips.loading import Clip
from geoclick.clips.templates import TEMPLATES
from geoclick.errors import UsageError
from geoclick.inference.contrastive.classes import ClassList
from geoclick.inference.contrastive.dense_map import SCALE
from geoclick.inference.contrastive.proposals import ProposalSettings
from geoclick.inference.contrastive.regions import PaintingRules
from geoclick.options import DENSE_METHODS, METHODS, SELECTIONS, ClipOptions

CLASS_BIAS = -0.3
"""Of SegEarth-OV's features, as published."""

EMBEDDED_LIMITS = (0.2, 0.8)
"""Predicted IoU and stability; SAM's limits leave few masks of the embedded SAM."""

SAM_LIMITS = (ProposalSettings.predicted_iou, ProposalSettings.stability)

OF_PROPOSALS = ("points_per_side", "predicted_iou", "stability")
"""Settings without a meaning for dense labels."""

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
        scale: factor of the cosines in the softmax over all queries, the reverse of its temperature.
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
    scale: float = SCALE
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
        if not 0 < self.scale < float("inf"):
            raise UsageError(f"The scale of the cosines must be a number above 0, not {self.scale}.")
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


def completed(
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
