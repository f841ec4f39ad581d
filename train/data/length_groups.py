"""Rows in batches of similar length, in another order in every epoch."""

import random
from collections.abc import Sequence

import torch
from torch.utils.data import Dataset
from transformers.trainer_pt_utils import get_length_grouped_indices

from geoclick.train.data.lazy_rows import LazyRows
from geoclick.train.data.mixture import Mixture
from geoclick.train.data.training_row import TrainingRow


class LengthGroups(Dataset[TrainingRow]):
    """Rows whose order follows from lengths, seed, epoch and the rows of a step alone.

    Args:
        rows: of `geoclick.train.data.rows.build`.
        lengths: tokens of each row.
        seed: of the run.
        per_step: rows of a step, over all processes and accumulated batches.
        mixture: decides what rows an epoch has; None is all of them.
    """

    def __init__(
        self,
        rows: LazyRows,
        lengths: Sequence[int],
        *,
        seed: int,
        per_step: int,
        mixture: Mixture | None = None,
    ) -> None:
        self.rows = rows
        self.mixture = mixture
        self.lengths = lengths
        self.seed = seed
        self.per_step = per_step
        self.epoch = 0

    def __len__(self) -> int:
        """Rows of an epoch."""
        return len(self.mixture or self.rows)

    def __getitem__(self, index: int) -> TrainingRow:
        """A row."""
        return self.rows[index]

    def __getitems__(self, indices: Sequence[int]) -> list[TrainingRow]:
        """The rows of a batch."""
        return self.rows.__getitems__(indices)

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, also in a resumed run."""
        self.epoch = epoch

    def keys(self) -> list[int]:
        """The rows of the epoch in its order, the same on every process."""
        seed = random.Random(f"length {self.seed} {self.epoch}").getrandbits(63)
        generator = torch.Generator().manual_seed(seed)
        rows = [index for _, index in self.mixture.keys(self.epoch)] if self.mixture else None
        lengths = self.lengths if rows is None else [self.lengths[index] for index in rows]
        order: list[int] = get_length_grouped_indices(lengths, self.per_step, generator=generator)
        return order if rows is None else [rows[place] for place in order]
