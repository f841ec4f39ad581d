"""Datasets whose samples change with the epoch: augmented rows, and the sampler whose keys hold the epoch."""

import random
from collections.abc import Iterator, Sequence
from typing import Protocol, cast

from torch.utils.data import Dataset, Sampler

from geoclick.train.augmentation.augment import Augmentation
from geoclick.train.data.lazy_rows import LazyRows
from geoclick.train.data.mixture import Mixture
from geoclick.train.data.training_row import RawRow, TrainingRow

Key = tuple[int, int]
"""Epoch, or pass of a mixture, and index of a row: a worker needs no other state than the rows themselves."""


class AugmentedDataset(Dataset[TrainingRow]):
    """Rows, augmented differently in every epoch.

    Args:
        rows: of `geoclick.train.data.rows.build`, raw.
        augmentation: of each.
        mixture: decides what rows an epoch has; None is all of them.
    """

    def __init__(self, rows: LazyRows, augmentation: Augmentation, mixture: Mixture | None = None) -> None:
        self.rows = rows
        self.augmentation = augmentation
        self.mixture = mixture
        self.epoch = 0

    def __len__(self) -> int:
        """Rows of an epoch."""
        return len(self.mixture or self.rows)

    def __getitem__(self, key: Key) -> TrainingRow:
        """A row as it is in an epoch."""
        epoch, index = key
        return self.augmentation(cast(RawRow, self.rows[index]), epoch)

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, also in a resumed run."""
        self.epoch = epoch

    def keys(self) -> list[Key]:
        """The rows of the epoch in its order, the same on every process."""
        if self.mixture:
            return self.mixture.keys(self.epoch)
        order = list(range(len(self)))
        random.Random(f"order {self.augmentation.seed} {self.epoch}").shuffle(order)
        return [(self.epoch, index) for index in order]


class EpochDataset(Protocol):
    """A dataset with other keys in every epoch: `AugmentedDataset`, or `PackedDataset` of `train.packing`."""

    def __len__(self) -> int:
        """Samples of an epoch."""

    def keys(self) -> Sequence[object]:
        """The key of each sample of the epoch, in order."""


class EpochSampler(Sampler[object]):
    """The keys of a dataset's epoch, in order.

    It has no `set_epoch` of its own: accelerate would call that one instead of the dataset's, and behind a
    resumed, sharded loader neither.
    """

    def __init__(self, dataset: EpochDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Keys of an epoch."""
        return len(self.dataset)

    def __iter__(self) -> Iterator[object]:
        """The keys, one sample after another."""
        return iter(self.dataset.keys())
