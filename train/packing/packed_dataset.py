"""A dataset of packs, others in every epoch."""

import hashlib
from collections.abc import Hashable, Sequence
from typing import Any, Protocol, cast

import numpy as np
from torch.utils.data import Dataset

from geoclick.train.augmentation.augment import Augmentation
from geoclick.train.augmentation.augmented_dataset import AugmentedDataset, Key
from geoclick.train.data import cache_folder
from geoclick.train.data.lazy_rows import LazyRows
from geoclick.train.data.mixture import Mixture
from geoclick.train.data.shared_work import in_processes
from geoclick.train.data.training_row import TrainingRow
from geoclick.train.packing.mixed_plan import MixedPlan
from geoclick.train.packing.plan import COMPOSITIONS, PackingPlan
from geoclick.vlms.processor import Processor

LARGE = 100_000
"""Rows from which the number of packs is cached."""


def build(
    rows: LazyRows,
    processor: Processor,
    *,
    budget: int,
    seed: int,
    per_step: int,
    share_images: bool = True,
    augmentation: Augmentation | None = None,
    mixture: Mixture | None = None,
) -> "PackedDataset":
    """The rows in packs.

    Args:
        rows: of `geoclick.train.data.rows.build`.
        processor: the VLM's.
        budget: largest number of tokens of a pack.
        seed: of the run.
        per_step: packs of a step, over all processes and accumulated ones.
        share_images: put the queries of an image into one pack, so that one pass of the vision tower serves them. Runs
            always do, also with cached features: packs must not depend on the memory of a machine.
        augmentation: of the rows, whose lengths are then the largest that it may give them.
        mixture: decides what rows an epoch has; None is all of them.

    Raises:
        GeoClickError: no row fits the budget, or none of a source of the mixture.
    """
    groups: Sequence[int] = range(len(rows))
    if share_images:
        numbers: dict[Hashable, int] = {}
        groups = [numbers.setdefault(group, len(numbers)) for group in rows.groups()]
    lengths = rows.token_lengths(processor, augmentation)
    alone = PackingPlan(lengths, groups, budget, seed, per_step)
    plan: PackingPlan | MixedPlan = alone
    if mixture:
        fitting = mixture.only(lambda index: lengths[index] <= budget)
        plan = MixedPlan(lengths, groups, budget, fitting, per_step, alone.too_long)
    elif len(rows) >= LARGE:
        remember_count(alone, groups)
    return PackedDataset(AugmentedDataset(rows, augmentation) if augmentation else rows, plan)


def remember_count(plan: PackingPlan, groups: Sequence[int]) -> None:
    """Take the number of packs from the cache folder, or write it there: to count them takes several compositions."""
    arrays = [np.asarray(values, np.int64).tobytes() for values in (plan.lengths, groups)]
    content = [hashlib.sha256(array).hexdigest() for array in arrays]
    path = cache_folder.path("packs", [*content, plan.budget, plan.seed, plan.per_step], ".txt")
    with cache_folder.missing(path) as partial:
        if partial is not None:
            composed = in_processes(lambda epoch: len(plan.compose(epoch)), range(COMPOSITIONS))
            partial.write_text(str(plan.count_for(max(composed))))
    # Where `cached_property` looks first.
    vars(plan)["count"] = int(path.read_text())


class RowsByKey(Protocol):
    """Rows, each with a key: `LazyRows` with indices, or an `AugmentedDataset` with its keys."""

    def __getitem__(self, key: Any) -> TrainingRow:
        """One row."""


class PackedDataset(Dataset[list[TrainingRow]]):
    """The rows of a dataset, pack by pack.

    Args:
        rows: as `geoclick.train.data.rows.build` makes them, augmented or not.
        plan: which rows share a pack.
    """

    def __init__(self, rows: RowsByKey, plan: PackingPlan | MixedPlan) -> None:
        self.rows = rows
        self.plan = plan
        self.epoch = 0

    def __len__(self) -> int:
        """Packs of an epoch."""
        return self.plan.count

    def __getitem__(self, pack: Sequence[int | Key]) -> list[TrainingRow]:
        """The rows of a pack, given by their keys."""
        if isinstance(self.rows, LazyRows):
            return self.rows.__getitems__(cast(Sequence[int], pack))
        return [self.rows[key] for key in pack]

    def keys(self) -> list[list[int]] | list[list[Key]]:
        """The packs of the epoch, in order; the keys of augmented rows hold the epoch, or the pass of a mixture."""
        if not isinstance(self.rows, AugmentedDataset):
            return self.packs()
        if isinstance(self.plan, MixedPlan):
            return self.plan.keys(self.epoch)
        return [[(self.epoch, index) for index in pack] for pack in self.packs()]

    def packs(self) -> list[list[int]]:
        """The packs of the epoch, each a list of row indices."""
        return self.plan.packs(self.epoch)

    @property
    def mixture(self) -> Mixture | None:
        """The mixture of the rows that fit a pack, or None."""
        return self.plan.mixture if isinstance(self.plan, MixedPlan) else None

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate before each epoch, also in a resumed run."""
        self.epoch = epoch
