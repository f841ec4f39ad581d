"""Which samples of a click store are suspect: clicks that fail, masks too thin to click, masks that are there twice."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from geoclick import masks
from geoclick.data_synthesis.quality.measures import Measures
from geoclick.store import Row

LOW_IOU, DUPLICATE, SLIVER = "low-iou", "duplicate", "sliver"


@dataclass(frozen=True)
class Limits:
    """What makes a sample suspect.

    Attributes:
        min_iou: the best IoU of its sequence is below it.
        min_radius: the largest disc in its mask has a radius below it, in pixels.
        duplicate_iou: the IoU of its mask with an earlier one of its image is above it.
        same_query: only masks that answer the same query are duplicates of each other.
    """

    min_iou: float
    min_radius: float
    duplicate_iou: float
    same_query: bool = False


@dataclass(frozen=True)
class Duplicates:
    """Near-duplicate masks.

    Attributes:
        of: int [N], for each row the earlier one that it repeats, -1 where there is none.
        iou: float [N], that of the two masks; 0 where there is none.
    """

    of: np.ndarray
    iou: np.ndarray


def flag(measures: Measures, duplicates: Duplicates, limits: Limits) -> dict[str, np.ndarray]:
    """The flagged rows by reason, bool [N] each; a row without a target is never flagged."""
    rows, targets = measures.rows, measures.targets
    return {
        LOW_IOU: targets & (rows["best_iou"] < limits.min_iou),
        DUPLICATE: duplicates.of >= 0,
        SLIVER: targets & (rows["radius"] < limits.min_radius),
    }


def flagged(reasons: Mapping[str, np.ndarray]) -> np.ndarray:
    """The rows that have one of the reasons or more, bool [N]."""
    return np.logical_or.reduce([*reasons.values()])


def find_duplicates(
    measures: Measures, rows: Callable[[], Iterable[Row]], limits: Limits, advance: Callable[[], None]
) -> Duplicates:
    """Near-duplicates: of masks that are alike the first in the store stays, later ones are named after it.

    A mask is compared with earlier ones that stay, not with those that are duplicates themselves, so that a chain
    of small changes keeps its ends. Several sequences of one sample are no duplicates of each other.

    Args:
        measures: the store in numbers.
        rows: reads the store again, which is done when numbers alone do not decide.
        limits: says what is alike.
        advance: called once for each row that is read.
    """
    first = _first_alike(measures, limits)
    pairs = candidate_pairs(measures, np.unique(first[first >= 0]), limits)
    near: dict[int, list[tuple[int, float]]] = defaultdict(list)
    if len(pairs):
        for (a, b), iou in compare(measures, pairs, rows(), advance).items():
            if iou > limits.duplicate_iou:
                near[a].append((b, iou))
                near[b].append((a, iou))
    return _keep_first(measures.rows["sample"], first, near, limits)


def _keys(measures: Measures, limits: Limits) -> list[np.ndarray]:
    """The columns that two masks have in common when they may be duplicates, the last the most important."""
    columns = ("query", "image") if limits.same_query else ("image",)
    return [measures.rows[column] for column in columns]


def _first_alike(measures: Measures, limits: Limits) -> np.ndarray:
    """For each row the first one with the very same mask and keys, int [N]; -1 where there is no target.

    Equal masks, several queries for one thing for example, need no comparison.
    """
    places = np.flatnonzero(measures.targets)
    first = np.full(len(measures.rows), -1)
    if len(places):
        columns = [column[places] for column in (measures.rows["mask"], *_keys(measures, limits))]
        _, starts, groups = np.unique(np.stack(columns), axis=1, return_index=True, return_inverse=True)
        first[places] = places[starts][groups.ravel()]
    return first


def candidate_pairs(measures: Measures, places: np.ndarray, limits: Limits) -> np.ndarray:
    """The pairs of rows that numbers alone do not rule out as near-duplicates, int [P, 2].

    With A and B the larger and the smaller area, IoU > t needs B > t A, and since the intersection lies in both
    bounding boxes, it needs their common area to be above t A. So no pair is missed.

    Args:
        measures: the store in numbers.
        places: the rows to compare, int [n], in order.
        limits: says what is alike.
    """
    keys = [column[places] for column in _keys(measures, limits)]
    order = places[np.lexsort((measures.rows["area"][places], *keys))]
    sorted_keys = np.stack([column[order] for column in _keys(measures, limits)])
    cuts = np.flatnonzero((np.diff(sorted_keys, axis=1) != 0).any(axis=0)) + 1
    found = [np.empty((0, 2), np.int64)]
    for group in np.split(order, cuts):
        found += _pairs_of_image(group, measures.rows["area"][group], measures.rows["box"][group], limits)
    return np.concatenate(found)


def _pairs_of_image(
    places: np.ndarray, areas: np.ndarray, boxes: np.ndarray, limits: Limits
) -> list[np.ndarray]:
    """The pairs of `candidate_pairs` of one image, its rows sorted by area."""
    found = []
    starts = np.searchsorted(areas, areas * limits.duplicate_iou, side="left")
    for i in np.flatnonzero(starts < np.arange(len(places))):
        others = np.arange(starts[i], i)
        low = np.maximum(boxes[others, :2], boxes[i, :2])
        high = np.minimum(boxes[others, 2:], boxes[i, 2:])
        common = (high - low).clip(min=0).astype(np.int64).prod(axis=1)
        others = others[common >= areas[i] * limits.duplicate_iou]
        found.append(np.stack([np.full(len(others), places[i]), places[others]], axis=1))
    return found


def compare(
    measures: Measures, pairs: np.ndarray, rows: Iterable[Row], advance: Callable[[], None]
) -> dict[tuple[int, int], float]:
    """The IoU of the masks of each pair.

    Masks are kept as run lengths until all that an image needs are read, then decoded, compared and let go.

    Args:
        measures: the store in numbers.
        pairs: int [P, 2], each of one image.
        rows: all of the store.
        advance: called once for each row.
    """
    images = measures.rows["image"]
    pairs_of: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for a, b in pairs.tolist():
        pairs_of[int(images[a])].append((a, b))
    needed = set(np.unique(pairs).tolist())
    missing = {image: len({place for pair in of for place in pair}) for image, of in pairs_of.items()}
    kept: dict[int, dict[int, dict]] = defaultdict(dict)
    ious: dict[tuple[int, int], float] = {}
    for place, row in enumerate(rows):
        advance()
        if place not in needed:
            continue
        image = int(images[place])
        kept[image][place] = row.mask
        if len(kept[image]) == missing[image]:
            boxes = measures.rows["box"]
            crops = {p: _crop(masks.decode_rle(rle), boxes[p]) for p, rle in kept.pop(image).items()}
            ious |= {(a, b): _iou(crops[a], boxes[a], crops[b], boxes[b]) for a, b in pairs_of[image]}
    return ious


def _crop(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    top, left, bottom, right = box
    return mask[top:bottom, left:right].copy()


def _iou(a: np.ndarray, box_a: np.ndarray, b: np.ndarray, box_b: np.ndarray) -> float:
    """The IoU of two masks, each given by its bounding box and what is in it."""
    box = (*np.maximum(box_a[:2], box_b[:2]), *np.minimum(box_a[2:], box_b[2:]))
    top, left, bottom, right = box
    shared = [
        crop[top - own[0] : bottom - own[0], left - own[1] : right - own[1]]
        for crop, own in ((a, box_a), (b, box_b))
    ]
    common = int(np.count_nonzero(shared[0] & shared[1]))
    return common / (int(np.count_nonzero(a)) + int(np.count_nonzero(b)) - common)


def _keep_first(
    samples: np.ndarray, first: np.ndarray, near: dict[int, list[tuple[int, float]]], limits: Limits
) -> Duplicates:
    """Go through the store once and keep what nothing kept before is alike to.

    Args:
        samples: the sample of each row, int [N].
        first: of `_first_alike`.
        near: for the first of equal masks, which other firsts are alike, with the IoU.
        limits: says what is alike.
    """
    of, ious = np.full(len(first), -1), np.zeros(len(first))
    kept: dict[int, int] = {}
    # Nothing is above an IoU of 1, not even an equal mask.
    equal = limits.duplicate_iou < 1
    for place in np.flatnonzero(first >= 0).tolist():
        own = int(first[place])
        alike = [(own, 1.0)] * equal + near.get(own, [])
        found = [(iou, -kept[f]) for f, iou in alike if f in kept and samples[kept[f]] != samples[place]]
        if found:
            ious[place], earlier = max(found)
            of[place] = -earlier
        else:
            kept.setdefault(own, place)
    return Duplicates(of, ious)
