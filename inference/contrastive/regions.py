"""Sums inside masks and maps made of masks, in a time linear in the runs of their RLEs.

Masks are intervals of pixels in column order. The sum of an interval is the difference of two prefix sums. For a map,
the ends of all intervals cut the image to pieces, and the highest mask of each piece is searched among these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from geoclick import masks
from geoclick.errors import GeoClickError, UsageError
from geoclick.masks import Rle

Overlaps = Literal["small-on-top", "large-on-top", "predicted-iou", "margin"]
Uncovered = Literal["dense", "background", "nearest"]
OVERLAPS: tuple[Overlaps, ...] = get_args(Overlaps)
UNCOVERED: tuple[Uncovered, ...] = get_args(Uncovered)


class Region(Protocol):
    """A mask with the segmenter's estimate of its quality."""

    @property
    def rle(self) -> Rle:
        """The mask at the size of the image."""
        ...

    @property
    def predicted_iou(self) -> float:
        """The segmenter's estimate."""
        ...


@dataclass(frozen=True, kw_only=True)
class PaintingRules:
    """How the classes of masks become one map; both rules are part of an evaluation's protocol.

    Attributes:
        overlaps: which mask is on top: the smaller or the larger one, that of higher predicted IoU, or that with the
            larger margin between its first and second class; equal ones by predicted IoU, then the earlier.
        uncovered: pixels in no mask take their dense label, the background, or the class of the nearest pixel in one.
        background: a class.
    """

    overlaps: Overlaps = "small-on-top"
    uncovered: Uncovered = "dense"
    background: int = 0

    def check(self) -> None:
        """Raise UsageError if a rule is unknown."""
        if self.overlaps not in OVERLAPS:
            raise UsageError(
                f"Unknown rule {self.overlaps!r} for overlaps; use one of {', '.join(OVERLAPS)}."
            )
        if self.uncovered not in UNCOVERED:
            raise UsageError(
                f"Unknown rule {self.uncovered!r} for uncovered pixels; use one of {', '.join(UNCOVERED)}."
            )


class Regions:
    """The masks of one image.

    Args:
        proposals: the masks.
        size: (height, width) of the image.

    Attributes:
        proposals: the masks.
        size: of the image.
        starts: first pixel of each interval, column by column, int64 [R].
        ends: first pixel after it.
        owner: number of its mask.
        areas: pixels of each mask, int64 [N].

    Raises:
        GeoClickError: a mask has another size.
    """

    def __init__(self, proposals: Sequence[Region], size: tuple[int, int]) -> None:
        self.proposals, self.size = proposals, size
        self.scores = np.array([proposal.predicted_iou for proposal in proposals], float)
        starts, ends = [], []
        for proposal in proposals:
            own_size, runs = masks.decode_runs(proposal.rle)
            if own_size != tuple(size):
                raise GeoClickError(
                    f"A proposal of size {own_size[0]}x{own_size[1]} does not fit labels of {size[0]}x{size[1]}; make "
                    "both from the same image."
                )
            edges = np.cumsum(runs)
            ends.append(edges[1::2])
            starts.append(edges[::2][: len(ends[-1])])
        empty = np.zeros(0, np.int64)
        self.owner = np.repeat(np.arange(len(starts)), [len(own) for own in starts])
        self.starts, self.ends = np.concatenate([empty, *starts]), np.concatenate([empty, *ends])
        self.areas = np.bincount(self.owner, self.ends - self.starts, len(self)).astype(np.int64)

    def __len__(self) -> int:
        return len(self.scores)

    def sums(self, plane: np.ndarray) -> np.ndarray:
        """The sum of bool or numbers [H, W] inside each mask, float64 [N]."""
        kind = np.int64 if plane.dtype.kind in "bui" else np.float64
        prefix = np.zeros(plane.size + 1, kind)
        np.cumsum(plane.T.reshape(-1), out=prefix[1:])
        return np.bincount(self.owner, prefix[self.ends] - prefix[self.starts], len(self))

    def counts(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """The pixels of each class inside each mask, int64 [N, C]; other labels are not counted."""
        counts = np.zeros((len(self), classes), np.int64)
        # In the order of the intervals once, not for each class.
        columns = np.ascontiguousarray(labels.T).T
        for number in range(classes):
            plane = columns == number
            if plane.any():
                counts[:, number] = self.sums(plane)
        return counts

    def cells(self, grid: tuple[int, int]) -> np.ndarray:
        """The pixels of each mask in each cell of a grid (rows, columns) over the image, int64 [N, rows, columns]."""
        (height, width), (rows, columns) = self.size, grid
        row_edges = np.arange(rows) * height // rows
        cuts = (np.arange(width)[:, None] * height + row_edges).reshape(-1)
        first = np.searchsorted(cuts, self.starts, side="right") - 1
        pieces = np.searchsorted(cuts, self.ends, side="left") - first
        before = np.repeat(np.cumsum(pieces) - pieces, pieces)
        cut = np.repeat(first, pieces) + np.arange(pieces.sum()) - before
        stops = np.append(cuts, height * width)[cut + 1]
        lengths = np.minimum(np.repeat(self.ends, pieces), stops) - np.maximum(
            np.repeat(self.starts, pieces), cuts[cut]
        )
        column = np.searchsorted(np.arange(columns) * width // columns, np.arange(width), side="right") - 1
        cell = cut % rows * columns + column[cut // rows]
        flat = np.bincount(
            np.repeat(self.owner, pieces) * (rows * columns) + cell, lengths, len(self) * rows * columns
        )
        return flat.astype(np.int64).reshape(len(self), rows, columns)

    def coverage(self) -> float:
        """The share of pixels in at least one mask."""
        if not len(self.starts):
            return 0.0
        order = np.argsort(self.starts)
        ends = np.maximum.accumulate(self.ends[order])
        before = np.concatenate(([0], ends[:-1]))
        new = np.maximum(ends - np.maximum(self.starts[order], before), 0)
        return float(new.sum() / (self.size[0] * self.size[1]))

    def paint(
        self, classes: np.ndarray, rules: PaintingRules, labels: np.ndarray | None, margins: np.ndarray
    ) -> np.ndarray:
        """The map of the masks' classes.

        Args:
            classes: of each mask, int [N]; masks of class -1 are left out.
            rules: for overlaps and uncovered pixels.
            labels: the dense labels [H, W]; only the rule `dense` needs them.
            margins: of each mask, float [N]; only the rule `margin` uses them.

        Returns:
            int32 [H, W].
        """
        rules.check()
        if rules.uncovered == "dense" and labels is None:
            raise UsageError(
                "The rule 'dense' for uncovered pixels needs dense labels; use background or nearest."
            )
        top, lengths = self._tops(self._ranks(rules.overlaps, margins), classes >= 0)
        of_piece = np.append(classes, -1)[top].astype(np.int32)
        height, width = self.size
        painted = np.repeat(of_piece, lengths).reshape(width, height).T
        free = painted < 0
        if rules.uncovered == "nearest" and not free.all():
            from scipy import ndimage

            rows, columns = ndimage.distance_transform_edt(free, return_distances=False, return_indices=True)
            return np.ascontiguousarray(painted[rows, columns])
        other = labels if rules.uncovered == "dense" and labels is not None else rules.background
        return np.where(free, other, painted).astype(np.int32)

    def _ranks(self, overlaps: Overlaps, margins: np.ndarray) -> np.ndarray:
        """The place of each mask from the bottom, int64 [N]."""
        keys = {
            "small-on-top": -self.areas,
            "large-on-top": self.areas,
            "predicted-iou": self.scores,
            "margin": margins,
        }
        order = np.lexsort((-np.arange(len(self)), self.scores, keys[overlaps]))
        ranks = np.empty(len(self), np.int64)
        ranks[order] = np.arange(len(self))
        return ranks

    def _tops(self, ranks: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The highest used mask of each piece, -1 for none, and the length of the piece, column by column."""
        chosen = used[self.owner]
        starts, ends, rank = self.starts[chosen], self.ends[chosen], ranks[self.owner[chosen]]
        edges = np.unique(np.concatenate(([0, self.size[0] * self.size[1]], starts, ends)))
        first, last = np.searchsorted(edges, starts), np.searchsorted(edges, ends)
        # An interval is covered by two blocks of 2^k pieces; blocks pass their highest rank on to their halves.
        level = np.frexp(last - first)[1] - 1
        highest = np.full(len(edges), -1, np.int64)
        for k in range(int(level.max(initial=0)), -1, -1):
            half = 1 << k
            if half < len(highest):
                highest[half:] = np.maximum(highest[half:], highest[:-half])
            own = level == k
            np.maximum.at(highest, first[own], rank[own])
            np.maximum.at(highest, last[own] - half, rank[own])
        by_rank = np.append(np.argsort(ranks), -1)
        return by_rank[highest[:-1]], np.diff(edges)
