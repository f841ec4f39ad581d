"""Selection: each proposal takes a class, and the proposals become one map.

    vote(labels(logits, classes), propose(segmenter, image), classes)

`vote` is the paper's rule: CLIP's pixel labels vote inside each mask. `soft_vote` averages probabilities instead,
`pool` compares the mean feature of a mask with the text, and region_crops.py compares a crop of the image.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.contrastive.classes import ClassList
from geoclick.inference.contrastive.regions import PaintingRules, Region, Regions

Classes = ClassList | Sequence[int] | np.ndarray | int
"""The class of each query (a list of classes, or whole numbers [Q]), or the number of classes."""

Proposals = Sequence[Region] | Regions
"""The masks of an image, or already their intervals, which several functions may share."""

ORACLE_RULES = PaintingRules(uncovered="background")
"""Without CLIP there are no dense labels."""


def vote(
    labels: np.ndarray, proposals: Proposals, classes: Classes, rules: PaintingRules | None = None
) -> np.ndarray:
    """The majority label of each proposal; the lower class of two equal ones.

    Args:
        labels: the class of each pixel, int [H, W]; other values than classes do not vote.
        proposals: masks of the same image.
        classes: the classes.
        rules: for overlaps and uncovered pixels; by default the smaller mask is on top, and uncovered pixels keep
            their label.

    Returns:
        int32 [H, W].

    Raises:
        UsageError: a rule is unknown.
        GeoClickError: a proposal has another size than the labels.
    """
    regions = regions_of(proposals, _size(labels))
    counts = regions.counts(labels, class_count(classes))
    return _paint(regions, counts, rules or PaintingRules(), labels)


def share(
    labels: np.ndarray,
    proposals: Proposals,
    *,
    target: int = 1,
    threshold: float = 0.5,
    uncovered: str = "background",
) -> np.ndarray:
    """The union of the proposals whose share of pixels with the label `target` is above a threshold.

    Args:
        labels: the class of each pixel, int [H, W].
        proposals: masks of the same image.
        target: the class.
        threshold: from 0 to 1.
        uncovered: pixels in no proposal are not in the target (`background`) or keep their label (`dense`).

    Returns:
        bool [H, W].

    Raises:
        UsageError: a threshold outside 0 to 1, or an unknown rule.
        GeoClickError: a proposal has another size than the labels.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"The threshold of the share must be from 0 to 1, not {threshold}.")
    if uncovered not in ("background", "dense"):
        raise UsageError(f"Unknown rule {uncovered!r} for uncovered pixels; use background or dense.")
    regions = regions_of(proposals, _size(labels))
    shares = regions.sums(labels == target) / np.maximum(regions.areas, 1)
    union = PaintingRules(uncovered="background")
    if uncovered == "background":
        return regions.paint(np.where(shares > threshold, 1, -1), union, None, shares).astype(bool)
    # A mask that is chosen lies above all that are not.
    rules = PaintingRules(overlaps="margin", uncovered="dense")
    chosen = (shares > threshold).astype(np.int64)
    return regions.paint(chosen, rules, (labels == target).astype(np.int32), chosen.astype(float)).astype(
        bool
    )


def soft_vote(
    probabilities: Tensor | np.ndarray,
    proposals: Proposals,
    rules: PaintingRules | None = None,
    labels: np.ndarray | None = None,
) -> np.ndarray:
    """The class of the highest mean probability inside each proposal.

    Args:
        probabilities: of each class at each pixel, float [C, H, W].
        proposals: masks of the same image.
        rules: as in `vote`.
        labels: of uncovered pixels, int [H, W]; None for the most probable class.

    Returns:
        int32 [H, W].
    """
    planes = torch.as_tensor(probabilities)
    regions = regions_of(proposals, (planes.shape[1], planes.shape[2]))
    sums = np.stack([regions.sums(plane.float().cpu().numpy()) for plane in planes], axis=1)
    dense = planes.argmax(0).cpu().numpy() if labels is None else labels
    return _paint(regions, sums, rules or PaintingRules(), dense)


def pool(
    features: Tensor,
    text_features: Tensor,
    classes: ClassList | Sequence[int],
    proposals: Proposals,
    labels: np.ndarray,
    rules: PaintingRules | None = None,
) -> np.ndarray:
    """The class of the query that is nearest to the mean feature of each proposal.

    Args:
        features: of the complete image, float [h, w, D]; each counts by its pixels inside the mask.
        text_features: normalized text embeddings [Q, D].
        classes: the class of each query.
        proposals: masks of the image.
        labels: the dense labels of the image, int [H, W].
        rules: as in `vote`.

    Returns:
        int32 [H, W].
    """
    regions = regions_of(proposals, _size(labels))
    cells = torch.as_tensor(regions.cells((features.shape[0], features.shape[1])), device=features.device)
    mean = functional.normalize(cells.flatten(1).float() @ features.flatten(0, 1).float(), dim=-1)
    cosines = (mean @ text_features.float().T).cpu().numpy()
    return by_query(cosines, classes, proposals, labels, rules)


def by_query(
    cosines: np.ndarray,
    classes: ClassList | Sequence[int],
    proposals: Proposals,
    labels: np.ndarray,
    rules: PaintingRules | None = None,
) -> np.ndarray:
    """The class of the nearest query of each proposal.

    Args:
        cosines: of each proposal and query, float [N, Q], such as those of region_crops.py.
        classes: the class of each query.
        proposals: the masks.
        labels: the dense labels of the image, int [H, W].
        rules: as in `vote`.

    Returns:
        int32 [H, W].
    """
    numbers = np.asarray(_query_classes(classes))
    if cosines.shape != (len(proposals), len(numbers)):
        raise GeoClickError(
            f"{len(proposals)} proposals and {len(numbers)} queries need as many cosines, not {list(cosines.shape)}."
        )
    best = np.full((len(proposals), class_count(classes)), -np.inf)
    for query, number in enumerate(numbers):
        best[:, number] = np.maximum(best[:, number], cosines[:, query])
    return _paint(
        regions_of(proposals, _size(labels)), best, rules or PaintingRules(), labels, per_pixel=False
    )


def oracle_proposals(
    truth: np.ndarray,
    proposals: Proposals,
    classes: Classes,
    rules: PaintingRules = ORACLE_RULES,
    *,
    ignored: int = 255,
    labels: np.ndarray | None = None,
) -> np.ndarray:
    """The majority true class of each proposal: the best that a selection could do with these masks.

    It is not the Oracle of the paper.

    Args:
        truth: the true class of each pixel, int [H, W].
        proposals: masks of the same image; one with ignored pixels only is left out.
        classes: the classes.
        rules: for overlaps and uncovered pixels.
        ignored: value of pixels that do not vote.
        labels: CLIP's dense labels [H, W], which the rule `dense` for uncovered pixels needs.

    Returns:
        int32 [H, W].
    """
    regions = regions_of(proposals, _size(truth))
    count = class_count(classes)
    counts = regions.counts(np.where(truth == ignored, -1, truth.astype(np.int64)), count)
    return _paint(regions, counts, rules, labels)


def coverage(proposals: Proposals, size: tuple[int, int]) -> float:
    """The share of the pixels of an image of `size` (height, width) that are in at least one proposal."""
    return regions_of(proposals, size).coverage()


def regions_of(proposals: Proposals, size: tuple[int, int]) -> Regions:
    """The intervals of the masks of an image of `size` (height, width).

    Raises:
        GeoClickError: a mask has another size.
    """
    if not isinstance(proposals, Regions):
        return Regions(proposals, size)
    if proposals.size != tuple(size):
        return Regions(proposals.proposals, size)
    return proposals


def class_count(classes: Classes) -> int:
    """The number of classes."""
    if isinstance(classes, int | np.integer):
        return int(classes)
    return max(_query_classes(classes), default=-1) + 1


def _query_classes(classes: ClassList | Sequence[int] | np.ndarray) -> Sequence[int]:
    numbers = classes.query_classes if isinstance(classes, ClassList) else classes
    return [int(number) for number in numbers]


def _size(labels: np.ndarray) -> tuple[int, int]:
    return labels.shape[0], labels.shape[1]


def _paint(
    regions: Regions,
    scores: np.ndarray,
    rules: PaintingRules,
    labels: np.ndarray | None,
    *,
    per_pixel: bool = True,
) -> np.ndarray:
    """The map of the classes with the highest scores [N, C]; masks without pixels or without a vote are left out.

    The margin of a mask is the difference of its two highest scores; with `per_pixel` the scores are sums over pixels.
    """
    if not len(regions) or not scores.shape[1]:
        return regions.paint(np.full(len(regions), -1), rules, labels, np.zeros(len(regions)))
    highest = np.sort(scores, axis=1)
    margins = highest[:, -1] - (highest[:, -2] if scores.shape[1] > 1 else 0)
    if per_pixel:
        margins = margins / np.maximum(regions.areas, 1)
    voted = regions.areas > 0
    if scores.dtype.kind == "i":
        voted &= highest[:, -1] > 0
    return regions.paint(np.where(voted, scores.argmax(1), -1), rules, labels, margins)
