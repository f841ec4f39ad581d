"""Packs of a mixture: every epoch packs the rows that the mixture chooses for it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

from geoclick.train.data.mixture import Key, Mixture
from geoclick.train.packing.plan import COMPOSITIONS, PackingPlan, exactly


@dataclass(frozen=True)
class MixedPlan:
    """Packs of other rows in every epoch, the same number in each; see `PackingPlan`.

    Attributes:
        lengths: tokens of each row of all sources.
        groups: group of each row; repeated rows are in a group of their own, so that they do not share a pack.
        budget: largest number of tokens of a pack.
        mixture: of rows within the budget.
        per_step: packs of a step.
        too_long: rows that are longer than the budget.
    """

    lengths: Sequence[int]
    groups: Sequence[Hashable]
    budget: int
    mixture: Mixture
    per_step: int
    too_long: int

    @cached_property
    def count(self) -> int:
        """Packs of every epoch."""
        most = max(len(self._compose(epoch)) for epoch in range(COMPOSITIONS))
        return min(-(-most // self.per_step) * self.per_step, len(self.mixture))

    @property
    def filled(self) -> float:
        """Fraction of the budgets that the rows of the first epoch fill."""
        tokens = sum(self.lengths[index] for _, index in self.mixture.keys(0))
        return tokens / (self.count * self.budget)

    def keys(self, epoch: int) -> list[list[Key]]:
        """The packs of an epoch in order, each a list of keys of the mixture."""
        packs = self._compose(epoch)
        if len(packs) > self.count:
            # Rare: the rows of an epoch that is known to fit.
            packs = self._compose(epoch % COMPOSITIONS)
        return exactly(packs, self.count, f"order {self.mixture.seed} {epoch}")

    def packs(self, epoch: int) -> list[list[int]]:
        """The packs of an epoch in order, each a list of row indices; a row may be in several."""
        return [[index for _, index in pack] for pack in self.keys(epoch)]

    def _compose(self, epoch: int) -> list[list[Key]]:
        keys = self.mixture.keys(epoch)
        lengths = [self.lengths[index] for _, index in keys]
        groups = [(self.groups[index], number) for number, index in keys]
        plan = PackingPlan(lengths, groups, self.budget, self.mixture.seed)
        return [[keys[place] for place in pack] for pack in plan.compose(epoch)]
