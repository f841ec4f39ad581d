"""Masks: run-length coding, intersection over union, connected components and outlines.

Masks are bool [H, W]. RLE is COCO's compressed form (column-major runs, zeros first) as
`{"size": [H, W], "counts": str}`, which fits in JSON.
"""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from pycocotools import mask as coco
from skimage import measure

from geoclick.errors import GeoClickError

MAX_PIXELS = 1 << 30
"""Larger planes are taken for a broken `size`; the largest benchmark image has 5.8e7 pixels."""
STRIP = 128
"""Rows that are transposed at once."""


class Rle(TypedDict):
    """A mask in COCO's compressed run-length encoding: `size` is [height, width]."""

    size: list[int]
    counts: str


def encode_rle(mask: np.ndarray) -> Rle:
    """A mask, bool [H, W] or numbers with non-zero as target, as `{"size": [H, W], "counts": str}`."""
    if mask.ndim != 2:
        raise GeoClickError(
            f"A mask must have two axes [H, W], not shape {list(mask.shape)}; pass one plane."
        )
    rle = coco.encode(_transposed(mask.astype(bool, copy=False)).view(np.uint8).T)
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_rle(rle: dict[str, Any] | Sequence[dict[str, Any]]) -> np.ndarray:
    """An RLE as bool [H, W].

    Args:
        rle: `counts` as str or bytes (compressed) or a list of run lengths; a list of RLEs is merged into
            one mask.

    Raises:
        GeoClickError: the counts are broken, do not fill `size`, or planes differ in size.
    """
    if isinstance(rle, list | tuple):
        planes = [decode_rle(plane) for plane in rle]
        if not planes or any(plane.shape != planes[0].shape for plane in planes):
            raise GeoClickError(
                "An RLE of several planes needs one or more of the same size; mend the record."
            )
        return np.logical_or.reduce(planes)
    (height, width), runs = _runs(rle)
    values = np.arange(len(runs)) % 2 == 1
    return _transposed(np.repeat(values, runs).reshape(width, height))


def _transposed(mask: np.ndarray) -> np.ndarray:
    """A transposed copy of a mask, bool, by strips that stay in the cache: numpy's own takes twice as long."""
    turned = np.empty(mask.shape[::-1], bool)
    for start in range(0, len(mask), STRIP):
        turned[:, start : start + STRIP] = mask[start : start + STRIP].T
    return turned


def area(rle: dict[str, Any]) -> int:
    """The number of target pixels of an RLE, without decoding it; raises GeoClickError like `decode_rle`."""
    return int(_runs(rle)[1][1::2].sum())


def areas(rles: Sequence[dict[str, Any]]) -> list[int]:
    """The `area` of each RLE."""
    return [area(rle) for rle in rles]


def _runs(rle: dict[str, Any]) -> tuple[tuple[int, int], np.ndarray]:
    """The (height, width) and run lengths, int64 [R], of an RLE, checked.

    pycocotools trusts the counts, and masks come from files that others wrote, so they are read here.
    """
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        runs = (
            _compressed_runs(counts)
            if isinstance(counts, str | bytes)
            else np.array([int(run) for run in counts], dtype=np.int64)
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise GeoClickError(
            'The mask is no COCO RLE {"size": [H, W], "counts": ...}; write it with encode_rle.'
        ) from error
    fits = height > 0 and width > 0 and height * width <= MAX_PIXELS
    # Every run is bounded before the sum, which could otherwise wrap around to the right number.
    bounded = len(runs) <= height * width + 2 and ((runs >= 0) & (runs <= MAX_PIXELS)).all()
    if not (fits and bounded and int(runs.sum()) == height * width):
        raise GeoClickError(
            f"The RLE's counts do not fill its size {height}x{width}; the record is broken, write it again."
        )
    return (height, width), runs


def _compressed_runs(counts: str | bytes) -> np.ndarray:
    """Run lengths of COCO's compressed counts.

    Little-endian base 32 with a continuation bit; from the fourth on, each is a difference to the one two
    before (maskApi.c of the COCO API).
    """
    raw = counts.encode("ascii") if isinstance(counts, str) else counts
    digits = np.frombuffer(raw, dtype=np.uint8).astype(np.int64) - 48
    if len(digits) == 0 or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise ValueError("broken counts")
    last = np.flatnonzero((digits & 32) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    if lengths.max() > 7:
        raise ValueError("a count is too large")
    shift = 5 * (np.arange(len(digits)) - np.repeat(first, lengths))
    values = np.add.reduceat((digits & 31) << shift, first)
    values -= np.where(digits[last] & 16, np.int64(1) << (5 * lengths), 0)
    runs = values.copy()
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    return runs


def iou(a: np.ndarray, b: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Intersection over union of two masks, bool [H, W]; 1.0 when both are empty.

    Args:
        a: one mask.
        b: the other, of the same shape.
        valid: bool [H, W], False where pixels are ignored; None takes all.
    """
    if a.shape != b.shape or (valid is not None and valid.shape != a.shape):
        raise GeoClickError(
            f"Masks of shapes {list(a.shape)} and {list(b.shape)} cannot be compared; give them one size."
        )
    intersection, union = a & b, a | b
    if valid is not None:
        intersection, union = intersection & valid, union & valid
    total = np.count_nonzero(union)
    return np.count_nonzero(intersection) / total if total else 1.0


def bounding_box(mask: np.ndarray) -> tuple[slice, slice] | None:
    """The rows and columns of the smallest box around a mask, bool [H, W]; None when it is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    rows = slice(int(rows[0]), int(rows[-1]) + 1)
    columns = np.flatnonzero(mask[rows].any(axis=0))
    return rows, slice(int(columns[0]), int(columns[-1]) + 1)


def components(mask: np.ndarray, connectivity: int = 8) -> list[np.ndarray]:
    """The connected components of a mask, each bool [H, W], in row-major order of their first pixel.

    Args:
        mask: bool [H, W].
        connectivity: 4 or 8 neighbors.
    """
    labels, count = measure.label(mask, connectivity=1 if connectivity == 4 else 2, return_num=True)
    return [labels == label for label in range(1, count + 1)]


def polygons(mask: np.ndarray) -> list[np.ndarray]:
    """The closed outlines of a mask, each float [N, 2] of (x, y) with the first point repeated at the end.

    They run half-way between the centers of target and other pixels; a hole's outline turns the other way.
    """
    padded = np.pad(mask.astype(np.float32), 1)
    return [outline[:, ::-1] - 1 for outline in measure.find_contours(padded, 0.5)]
