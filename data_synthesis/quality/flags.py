"""Suspect samples of a click store: low IoUs, masks too thin to click, duplicate masks, contradictions."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from geoclick import contradictions, masks
from geoclick.data_synthesis.quality.measures import Measures
from geoclick.store import Row

LOW_IOU, DUPLICATE, SLIVER, CONTRADICTION = "low-iou", "duplicate", "sliver", "contradiction"


@dataclass(frozen=True)
class Limits:
    """When a sample is suspect.

    Attributes:
        min_iou: the IoU after the last click of its sequence is below it.
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
        of: int [N], for each row the earlier one that it repeats, or -1.
        iou: float [N], IoU of the two masks, or 0.
    """

    of: np.ndarray
    iou: np.ndarray


def flag(measures: Measures, duplicates: Duplicates, limits: Limits) -> dict[str, np.ndarray]:
    """The flagged rows by reason, bool [N] each; a row without a target is flagged as a contradiction only."""
    rows, targets = measures.rows, measures.targets
    return {
        LOW_IOU: targets & (rows["final_iou"] < limits.min_iou),
        DUPLICATE: duplicates.of >= 0,
        SLIVER: targets & (rows["radius"] < limits.min_radius),
        CONTRADICTION: contradictions.contradicting(rows["question"], rows["mask"]),
    }


def flagged(reasons: Mapping[str, np.ndarray]) -> np.ndarray:
    """The rows with at least one reason, bool [N]."""
    return np.logical_or.reduce([*reasons.values()])


def find_duplicates(
    measures: Measures, rows: Callable[[], Iterable[Row]], limits: Limits, advance: Callable[[], None]
) -> Duplicates:
    """Near-duplicate masks: of similar masks the first in the store is the original, later ones are its duplicates.

    A mask is compared with originals only, so that in a chain of small changes distant masks are not duplicates.
    Several sequences of one sample are not duplicates of each other.

    Args:
        measures: the store in numbers.
        rows: reads the store again; called if the numbers alone do not decide.
        limits: define which masks are similar.
        advance: called once for each row that is read.
    """
    first = _first_equal(measures, limits)
    pairs = candidate_pairs(measures, np.unique(first[first >= 0]), limits)
    near: dict[int, list[tuple[int, float]]] = defaultdict(list)
    if len(pairs):
        for (a, b), iou in compare(measures, pairs, rows(), advance).items():
            if iou > limits.duplicate_iou:
                near[a].append((b, iou))
                near[b].append((a, iou))
    return _find_originals(measures.rows["sample"], first, near, limits)


def _keys(measures: Measures, limits: Limits) -> list[np.ndarray]:
    """The columns with equal values in duplicates, the most important last."""
    columns = ("query", "image") if limits.same_query else ("image",)
    return [measures.rows[column] for column in columns]


def _first_equal(measures: Measures, limits: Limits) -> np.ndarray:
    """For each row the first one with an equal mask and equal keys, int [N]; -1 where there is no target.

    Equal masks, for example of several queries for one object, need no comparison.
    """
    places = np.flatnonzero(measures.targets)
    first = np.full(len(measures.rows), -1)
    if len(places):
        columns = [column[places] for column in (measures.rows["mask"], *_keys(measures, limits))]
        _, starts, groups = np.unique(np.stack(columns), axis=1, return_index=True, return_inverse=True)
        first[places] = places[starts][groups.ravel()]
    return first


def candidate_pairs(measures: Measures, places: np.ndarray, limits: Limits) -> np.ndarray:
    """The pairs of rows that may be near-duplicates by their numbers, int [P, 2]; no near-duplicate is missing.

    With A and B the larger and the smaller area, IoU > t implies B > t A. The intersection is inside both bounding
    boxes, so IoU > t also implies that their common area is above t A.

    Args:
        measures: the store in numbers.
        places: the rows to compare, int [n], in order.
        limits: define which masks are similar.
    """
    keys = [column[places] for column in _keys(measures, limits)]
    order = places[np.lexsort((measures.rows["area"][places], *keys))]
    sorted_keys = np.stack([column[order] for column in _keys(measures, limits)])
    cuts = np.flatnonzero((np.diff(sorted_keys, axis=1) != 0).any(axis=0)) + 1
    pairs = [np.empty((0, 2), np.int64)]
    for group in np.split(order, cuts):
        pairs += _pairs_of_image(group, measures.rows["area"][group], measures.rows["box"][group], limits)
    return np.concatenate(pairs)


def _pairs_of_image(
    places: np.ndarray, areas: np.ndarray, boxes: np.ndarray, limits: Limits
) -> list[np.ndarray]:
    """The pairs of `candidate_pairs` of one image, its rows sorted by area."""
    pairs = []
    starts = np.searchsorted(areas, areas * limits.duplicate_iou, side="left")
    for i in np.flatnonzero(starts < np.arange(len(places))):
        others = np.arange(starts[i], i)
        low = np.maximum(boxes[others, :2], boxes[i, :2])
        high = np.minimum(boxes[others, 2:], boxes[i, 2:])
        common = (high - low).clip(min=0).astype(np.int64).prod(axis=1)
        others = others[common >= areas[i] * limits.duplicate_iou]
        pairs.append(np.stack([np.full(len(others), places[i]), places[others]], axis=1))
    return pairs


def compare(
    measures: Measures, pairs: np.ndarray, rows: Iterable[Row], advance: Callable[[], None]
) -> dict[tuple[int, int], float]:
    """The IoU of the masks of each pair.

    Masks are stored as run lengths until all of an image are read, then decoded and compared.

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
    pending: dict[int, dict[int, masks.Rle]] = defaultdict(dict)
    ious: dict[tuple[int, int], float] = {}
    for place, row in enumerate(rows):
        advance()
        if place not in needed:
            continue
        image = int(images[place])
        pending[image][place] = row.mask
        if len(pending[image]) == missing[image]:
            boxes = measures.rows["box"]
            crops = {p: _crop(masks.decode_rle(rle), boxes[p]) for p, rle in pending.pop(image).items()}
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


def _find_originals(
    samples: np.ndarray, first: np.ndarray, near: dict[int, list[tuple[int, float]]], limits: Limits
) -> Duplicates:
    """The duplicates, from one pass over the rows in the store's order.

    Args:
        samples: the sample of each row, int [N].
        first: from `_first_equal`.
        near: for the first of equal masks, which other firsts are similar, with the IoU.
        limits: define which masks are similar.
    """
    of, ious = np.full(len(first), -1), np.zeros(len(first))
    originals: dict[int, int] = {}
    # No IoU is above 1, not even that of equal masks.
    equal = limits.duplicate_iou < 1
    for index in np.flatnonzero(first >= 0).tolist():
        own = int(first[index])
        similar = [(own, 1.0)] * equal + near.get(own, [])
        matches = [
            (iou, -originals[f])
            for f, iou in similar
            if f in originals and samples[originals[f]] != samples[index]
        ]
        if matches:
            ious[index], earlier = max(matches)
            of[index] = -earlier
        else:
            originals.setdefault(own, index)
    return Duplicates(of, ious)
