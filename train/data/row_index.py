"""Which rows of a click store are trained on, and what is known of each without reading it: one pass, then a file."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geoclick import chat_rows
from geoclick.contradictions import fingerprint
from geoclick.train.data import cache_folder
from geoclick.train.data.row_file import StoreFile

VERSION = 1
"""Of the rules that choose rows (`geoclick.chat_rows`): another number makes all indices again."""

REASONS = "\n"
"""Separates the reasons in a file."""


@dataclass(frozen=True)
class Limits:
    """What decides which rows are used, and how their answers end; see `geoclick.chat_rows.usable`."""

    max_clicks: int
    min_iou: float
    answer_end: str


@dataclass(frozen=True)
class RowIndex:
    """The N usable ones of the R rows of a click store, in order.

    Attributes:
        key: names the index; it is the same for the same rows and limits.
        rows: the number of each in the store, int64 [N].
        image: the number of its image, int32 [N].
        sizes: (height, width) of the image in pixels, int32 [N, 2].
        queries: hash of the query, int64 [N].
        targets: hash of the target, int64 [N].
        names: of all images of the store.
        image_of_row: the number of the image of each row of the store, int32 [R].
        reasons: why rows are left out; the first one is empty.
        reason_of_row: the number of the reason of each row of the store, uint8 [R].
    """

    key: str
    rows: np.ndarray
    image: np.ndarray
    sizes: np.ndarray
    queries: np.ndarray
    targets: np.ndarray
    names: list[str]
    image_of_row: np.ndarray
    reasons: list[str]
    reason_of_row: np.ndarray

    def left_out(self, is_out: np.ndarray) -> dict[str, int]:
        """The number of rows left out, by reason.

        Args:
            is_out: the images whose rows are held out, whatever else is wrong with them, bool [images].
        """
        out = is_out[self.image_of_row]
        counts = np.bincount(self.reason_of_row[~out], minlength=len(self.reasons)).tolist()
        found = dict(zip(self.reasons, counts, strict=True)) | {"held out": int(out.sum())}
        return {reason: count for reason, count in found.items() if reason and count}


def open_index(store: StoreFile, limits: Limits) -> RowIndex:
    """The index of a store: read from the cache folder, or made and written there.

    Raises:
        GeoClickError: a row is broken.
    """
    path = cache_folder.path("indices", [VERSION, store.digest, vars(limits)], ".npz")
    with cache_folder.missing(path) as partial:
        if partial is not None:
            _write(partial, store, limits)
    names, image = store.file.categories("image")
    with np.load(path, allow_pickle=False) as values:
        reason = values["reason_of_row"]
        rows = np.flatnonzero(reason == 0)
        return RowIndex(
            key=path.stem,
            rows=rows,
            image=image[rows],
            sizes=values["sizes"],
            queries=values["queries"],
            targets=values["targets"],
            names=names,
            image_of_row=image,
            reasons=str(values["reasons"]).split(REASONS),
            reason_of_row=reason,
        )


class _Block(NamedTuple):
    """What is known of some rows: those of `reasons` are all, those of the other attributes are the usable ones."""

    reasons: list[str]
    sizes: np.ndarray
    queries: np.ndarray
    targets: np.ndarray


def _read(store: StoreFile, limits: Limits, numbers: Sequence[int]) -> _Block:
    """The block of some rows of a store."""
    reasons, sizes, queries, targets = [], array("i"), array("q"), array("q")
    for row in store.rows(numbers):
        left_out: Counter[str] = Counter()
        for _ in chat_rows.usable([row], left_out=left_out, **vars(limits)):
            sizes.extend((row.height, row.width))
            queries.append(fingerprint(row.query))
            targets.append(fingerprint(row.mask["size"], row.mask["counts"]))
        reasons.append(next(iter(left_out), ""))
    return _Block(
        reasons,
        np.array(sizes, np.int32).reshape(-1, 2),
        np.array(queries, np.int64),
        np.array(targets, np.int64),
    )


def _write(path: Path, store: StoreFile, limits: Limits) -> None:
    # It imports PyTorch, which a run with a wrong option need not wait for.
    from geoclick.train.data.shared_work import blocks_of

    def read(numbers: range) -> _Block:
        return _read(store, limits, numbers)

    blocks = list(blocks_of(read, len(store), f"Reading {store.folder.name}")) or [read(range(0))]
    numbers = {"": 0}
    reason_of_row = bytearray(
        numbers.setdefault(reason, len(numbers)) for block in blocks for reason in block.reasons
    )
    with path.open("wb") as file:
        np.savez(
            file,
            reason_of_row=np.frombuffer(reason_of_row, np.uint8),
            reasons=np.array(REASONS.join(numbers)),
            sizes=np.concatenate([block.sizes for block in blocks]),
            queries=np.concatenate([block.queries for block in blocks]),
            targets=np.concatenate([block.targets for block in blocks]),
        )
