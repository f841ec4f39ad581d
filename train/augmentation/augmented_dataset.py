"""Data sets whose samples are others in every epoch: augmented rows, and the sampler that names the epoch to them."""

import random
from collections.abc import Iterator
from typing import Any

from datasets import Dataset as Rows
from torch.utils.data import Dataset, Sampler

from geoclick.train.augmentation.augment import Augmentation

Key = tuple[int, int]
"""Epoch and index of a row. With the epoch in the key a worker needs no other state than the rows themselves."""


class Augmented(Dataset):
    """Rows, augmented anew in every epoch.

    Args:
        rows: of `geoclick.train.data.rows.build`, raw.
        augmentation: of each.
    """

    def __init__(self, rows: Rows, augmentation: Augmentation) -> None:
        self.rows = rows
        self.augmentation = augmentation
        self.epoch = 0

    def __len__(self) -> int:
        """Rows of an epoch."""
        return len(self.rows)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """A row as it is in an epoch."""
        epoch, index = key
        return self.augmentation(self.rows[index], epoch)

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, a resumed one too."""
        self.epoch = epoch

    def keys(self) -> list[Key]:
        """The rows of the epoch in its order, the same on every process."""
        order = list(range(len(self)))
        random.Random(f"order {self.augmentation.seed} {self.epoch}").shuffle(order)
        return [(self.epoch, index) for index in order]


class EpochSampler(Sampler):
    """The keys of a data set's epoch, in order: of `Augmented` rows, or of `train.packs.Packs`.

    It has no `set_epoch` of its own: accelerate would call that one instead of the data set's, and behind a
    resumed, sharded loader neither.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Keys of an epoch."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        """Keys of one sample after another."""
        return iter(self.dataset.keys())
