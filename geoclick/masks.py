"""Masks: run-length encoding, intersection over union, bounding boxes and outlines.

Masks are bool [H, W]. RLE is COCO's compressed form (column-major runs, zeros first),
`{"size": [H, W], "counts": str}`, which can be written as JSON.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from geoclick.errors import GeoClickError

MAX_PIXELS = 1 << 30
"""A larger `size` is an error; the largest image of a benchmark has 5.8e7 pixels."""
STRIP = 128
"""Number of rows that are transposed at once."""


class Rle(TypedDict):
    """A mask in COCO's compressed run-length encoding: `size` is [height, width]."""

    size: list[int]
    counts: str


RleLike = Mapping[str, Any]
"""An `Rle`, or one from elsewhere, which is checked when it is decoded: `counts` may be bytes or a list of runs."""


def encode_rle(mask: np.ndarray) -> Rle:
    """A mask, bool [H, W] or numbers where non-zero is the target, as `{"size": [H, W], "counts": str}`."""
    if mask.ndim != 2:
        raise GeoClickError(f"A mask must have two axes [H, W], not shape {list(mask.shape)}; pass one mask.")
    from pycocotools import mask as coco

    rle = coco.encode(_transposed(mask.astype(bool, copy=False)).view(np.uint8).T)
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_rle(rle: RleLike | Sequence[RleLike]) -> np.ndarray:
    """An RLE as bool [H, W].

    Args:
        rle: `counts` as str or bytes (compressed) or a list of run lengths; a list of RLEs is merged into
            one mask.

    Raises:
        GeoClickError: the counts are broken or do not fill `size`, or the list is empty or of several sizes.
    """
    if not isinstance(rle, Mapping):
        parts = [decode_rle(part) for part in rle] if isinstance(rle, list | tuple) else []
        if not parts or any(part.shape != parts[0].shape for part in parts):
            raise GeoClickError(
                "The mask is no COCO RLE, nor a list of RLEs of the same size; fix the record."
            )
        return np.logical_or.reduce(parts)
    (height, width), runs = decode_runs(rle)
    values = np.arange(len(runs)) % 2 == 1
    return _transposed(np.repeat(values, runs).reshape(width, height))


def _transposed(mask: np.ndarray) -> np.ndarray:
    """A transposed copy of a bool mask, strip by strip for the cache: twice as fast as numpy's own copy."""
    result = np.empty(mask.shape[::-1], bool)
    for start in range(0, len(mask), STRIP):
        result[:, start : start + STRIP] = mask[start : start + STRIP].T
    return result


def area(rle: RleLike) -> int:
    """The number of target pixels of an RLE, without decoding it; raises GeoClickError like `decode_rle`."""
    return int(decode_runs(rle)[1][1::2].sum())


def common_area(one: RleLike, other: RleLike) -> int:
    """The number of pixels in two RLEs of one size, from their runs alone.

    Raises:
        GeoClickError: an RLE is broken, or their sizes differ.
    """
    (size, runs), (other_size, other_runs) = decode_runs(one), decode_runs(other)
    if size != other_size:
        raise GeoClickError(f"Masks of {size} and {other_size} pixels have no common pixels; give one size.")
    edges = [np.cumsum(own) for own in (runs, other_runs)]
    cuts = np.unique(np.concatenate([[0], *edges]))
    # A pixel is in a mask if an odd number of its runs end at or before it.
    one_has, other_has = (np.searchsorted(own, cuts[:-1], side="right") % 2 == 1 for own in edges)
    return int(np.diff(cuts)[one_has & other_has].sum())


def longest_run(rle: RleLike) -> int:
    """The most target pixels of an RLE that follow one another down the columns; raises GeoClickError like `area`.

    A run that ends at the bottom of a column may continue at the top of the next one; it counts at most one column.
    """
    (height, _), runs = decode_runs(rle)
    return min(height, int(runs[1::2].max(initial=0)))


def decode_runs(rle: RleLike) -> tuple[tuple[int, int], np.ndarray]:
    """The (height, width) and run lengths, int64 [R], of an RLE: column by column, zeros and ones in turn.

    pycocotools does not check the counts, and masks come from untrusted files, so they are parsed here.

    Raises:
        GeoClickError: the counts are broken or do not fill `size`.
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
            'The mask is no COCO RLE {"size": [H, W], "counts": ...}; fix the record or write it with encode_rle.'
        ) from error
    fits = height > 0 and width > 0 and height * width <= MAX_PIXELS
    # Every run is bounded before the sum, which could otherwise wrap around to the right number.
    bounded = len(runs) <= height * width + 2 and ((runs >= 0) & (runs <= MAX_PIXELS)).all()
    if not (fits and bounded and int(runs.sum()) == height * width):
        raise GeoClickError(
            f"The RLE's counts do not fill its size {height}x{width}; the record is broken, write it again."
        )
    return (height, width), runs


def encode_runs(size: tuple[int, int], runs: np.ndarray) -> Rle:
    """Run lengths as an RLE with the bytes of `encode_rle`; the inverse of `decode_runs`.

    Args:
        size: (height, width).
        runs: lengths, int64 [R], column by column, zeros first (0 if the first pixel is a one); only the first may be
            0, and their sum is height * width.
    """
    values = runs.astype(np.int64)
    values[3:] -= runs[1:-2]
    # A value takes n digits of 5 bits if it lies in [-2^(5n - 1), 2^(5n - 1)).
    limits = np.int64(1) << (5 * np.arange(1, 7) - 1)
    digits = 1 + np.searchsorted(limits, np.where(values < 0, ~values, values), side="right")
    place = np.arange(digits.max(initial=1))
    symbols = ((values[:, None] >> (5 * place)) & 31) + np.where(place < digits[:, None] - 1, 32, 0) + 48
    counts = symbols[place < digits[:, None]].astype(np.uint8).tobytes().decode("ascii")
    return {"size": [int(side) for side in size], "counts": counts}


def _compressed_runs(counts: str | bytes) -> np.ndarray:
    """Run lengths of COCO's compressed counts.

    Little-endian base 32 with a continuation bit; from the fourth run on, each value is the difference from the run
    two places before (maskApi.c of the COCO API).
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
        valid: bool [H, W], False for ignored pixels; None uses all.
    """
    if a.shape != b.shape or (valid is not None and valid.shape != a.shape):
        raise GeoClickError(
            f"Masks of shapes {list(a.shape)} and {list(b.shape)} cannot be compared; give them the same size."
        )
    intersection, union = a & b, a | b
    if valid is not None:
        intersection, union = intersection & valid, union & valid
    total = np.count_nonzero(union)
    return np.count_nonzero(intersection) / total if total else 1.0


def bounding_box(mask: np.ndarray) -> tuple[slice, slice] | None:
    """The rows and columns of the smallest box around a mask, bool [H, W]; None if it is empty."""
    y = np.flatnonzero(mask.any(axis=1))
    if y.size == 0:
        return None
    rows = slice(int(y[0]), int(y[-1]) + 1)
    x = np.flatnonzero(mask[rows].any(axis=0))
    return rows, slice(int(x[0]), int(x[-1]) + 1)


def polygons(mask: np.ndarray) -> list[np.ndarray]:
    """The closed outlines of a mask, each float [N, 2] of (x, y) with the first point repeated at the end.

    They run half-way between the centers of target and other pixels; the outline of a hole has the opposite
    orientation.
    """
    from skimage import measure

    padded = np.pad(mask.astype(np.float32), 1)
    return [outline[:, ::-1] - 1 for outline in measure.find_contours(padded, 0.5)]
