"""Rows in batches of similar length, in another order in every epoch."""

import random
from collections.abc import Sequence

import torch
from datasets import Dataset as Rows
from torch.utils.data import Dataset
from transformers.trainer_pt_utils import get_length_grouped_indices

from geoclick.train.data.rows import TrainingRow


class LengthGroups(Dataset[TrainingRow]):
    """Rows whose order follows from lengths, seed, epoch and the rows of a step alone.

    Args:
        rows: of `geoclick.train.data.rows.build`.
        lengths: tokens of each row.
        seed: of the run.
        per_step: rows of a step, over all processes and accumulated batches.
    """

    def __init__(self, rows: Rows, lengths: Sequence[int], *, seed: int, per_step: int) -> None:
        self.rows = rows
        self.lengths = lengths
        self.seed = seed
        self.per_step = per_step
        self.epoch = 0

    def __len__(self) -> int:
        """Rows of an epoch."""
        return len(self.rows)

    def __getitem__(self, index: int) -> TrainingRow:
        """A row."""
        row: TrainingRow = self.rows[index]
        return row

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, also in a resumed run."""
        self.epoch = epoch

    def keys(self) -> list[int]:
        """The rows of the epoch in its order, the same on every process."""
        seed = random.Random(f"length {self.seed} {self.epoch}").getrandbits(63)
        generator = torch.Generator().manual_seed(seed)
        order: list[int] = get_length_grouped_indices(self.lengths, self.per_step, generator=generator)
        return order
