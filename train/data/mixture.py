"""Which rows of several sources make an epoch: shares by weight, others in every epoch, the same in every process."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch.utils.data import Dataset

from geoclick.errors import GeoClickError
from geoclick.train.data.lazy_rows import LazyRows
from geoclick.train.data.training_row import TrainingRow

STOPPING = ("first", "all")
"""When an epoch ends: once all rows of the first source, or of all sources, have been used."""

Key = tuple[int, int]
"""Pass over a source, counted from 0 through all epochs, and index of a row. A pass has each row of the source once."""


@dataclass(frozen=True)
class Mixture:
    """Rows of sources by weight; a pure function of the seed and the epoch, so that a checkpoint need not store it.

    A source is passed through in an order that is another in every pass, and an epoch goes on where the epoch before
    it stopped. So its rows are used equally often, however long an epoch is. Every epoch has the same number of rows.

    Attributes:
        members: the rows of each source; none is empty.
        weights: of each source, above 0; only their ratios count.
        stopping: of STOPPING; with `all` shorter sources are repeated.
        seed: of the run.
    """

    members: Sequence[Sequence[int]]
    weights: Sequence[float]
    stopping: str
    seed: int

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Rows of each source in every epoch."""
        passes = [len(rows) / weight for rows, weight in zip(self.members, self.weights, strict=True)]
        epoch = min(passes) if self.stopping == "first" else max(passes)
        return tuple(max(round(weight * epoch), 1) for weight in self.weights)

    def __len__(self) -> int:
        """Rows of every epoch."""
        return sum(self.counts)

    def only(self, usable: Callable[[int], bool]) -> "Mixture":
        """The mixture without rows that are not usable; raises GeoClickError if a source has no other."""
        members = [[row for row in rows if usable(row)] for rows in self.members]
        if not all(members):
            raise GeoClickError(
                f"No row of source {members.index([]) + 1} fits packing_tokens; raise packing_tokens, or leave it out."
            )
        return replace(self, members=members)

    def keys(self, epoch: int) -> list[Key]:
        """The rows of an epoch, in its order."""
        keys = [key for source in range(len(self.members)) for key in self._keys_of(source, epoch)]
        random.Random(f"mixture {self.seed} {epoch}").shuffle(keys)
        return keys

    def _keys_of(self, source: int, epoch: int) -> list[Key]:
        """The rows of one source: those at the places of the epoch in one endless sequence of passes."""
        rows, count = self.members[source], self.counts[source]
        start, end = epoch * count, (epoch + 1) * count
        keys: list[Key] = []
        for number in range(start // len(rows), -(-end // len(rows))):
            order = list(rows)
            random.Random(f"source {self.seed} {source} {number}").shuffle(order)
            first = number * len(rows)
            keys += [(number, row) for row in order[max(start - first, 0) : end - first]]
        return keys


class MixedDataset(Dataset[TrainingRow]):
    """The rows of a mixture.

    Args:
        rows: of all sources.
        mixture: which of them make an epoch.
    """

    def __init__(self, rows: LazyRows, mixture: Mixture) -> None:
        self.rows = rows
        self.mixture = mixture
        self.epoch = 0

    def __len__(self) -> int:
        """Rows of an epoch."""
        return len(self.mixture)

    def __getitem__(self, key: Key) -> TrainingRow:
        """A row by its key."""
        return self.rows[key[1]]

    def __getitems__(self, keys: Sequence[Key]) -> list[TrainingRow]:
        """The rows of a batch by their keys."""
        return self.rows.__getitems__([index for _, index in keys])

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, also in a resumed run."""
        self.epoch = epoch

    def keys(self) -> list[Key]:
        """The rows of the epoch in its order, the same on every process."""
        return self.mixture.keys(self.epoch)
