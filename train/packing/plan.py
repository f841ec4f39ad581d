"""Which samples share a sequence: lengths to packs, the same on every process and in every restart.

A pack is one row of a batch: samples of different images, or several queries of one, one after another within a
budget of tokens. A pure function of lengths, seed and epoch, so that nothing has to be saved with a checkpoint.
"""

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapreplace

from geoclick.errors import GeoClickError

WINDOW = 256
"""Budgets' worth of tokens that are packed together: what stays empty in all of them is about one pack."""

CLASSES = 32
"""Classes of length, up to the budget, within which chance decides."""

COMPOSITIONS = 4
"""Epochs that decide how many packs every epoch has."""


@dataclass(frozen=True)
class Packing:
    """Packs of a data set, anew for every epoch, the same number in each.

    The trainer counts the steps of an epoch once, and so the number of packs must not change: epochs that need
    fewer have some of their packs halved.

    Attributes:
        lengths: tokens of each sample, visual ones included.
        groups: of each sample, such as its image; samples of a group stand in one pack where that leaves no pack
            half empty.
        budget: tokens of a pack at most. Longer samples are in no pack; see `too_long`.
        seed: of the run.
        per_step: packs of a step, over all processes and accumulated ones. The number of packs is a multiple of it
            where there are samples enough: no process repeats a pack, no step is smaller than the others, and the
            packs do not depend on how many processes share a step.

    Raises:
        GeoClickError: no sample fits.
    """

    lengths: Sequence[int]
    groups: Sequence[Hashable]
    budget: int
    seed: int
    per_step: int = 1

    def __post_init__(self) -> None:
        if not any(length <= self.budget for length in self.lengths):
            raise GeoClickError(
                f"No row fits packing_tokens {self.budget}; the shortest one has {min(self.lengths)} tokens: "
                "raise packing_tokens, or lower max_pixels."
            )

    @cached_property
    def too_long(self) -> int:
        """Samples that are longer than the budget."""
        return sum(length > self.budget for length in self.lengths)

    @cached_property
    def count(self) -> int:
        """Packs of every epoch."""
        most = max(len(self._compose(epoch)) for epoch in range(COMPOSITIONS))
        return min(-(-most // self.per_step) * self.per_step, len(self.lengths) - self.too_long)

    @property
    def filled(self) -> float:
        """Share of the budgets that samples fill."""
        return sum(n for n in self.lengths if n <= self.budget) / (self.count * self.budget)

    def packs(self, epoch: int) -> list[list[int]]:
        """The packs of an epoch in their order, each a list of sample indices; every sample that fits is in one."""
        packs = self._compose(epoch)
        if len(packs) > self.count:
            # Rare, and no reason to leave samples out: the composition of an epoch that is known to fit.
            packs = self._compose(epoch % COMPOSITIONS)
        while len(packs) < self.count:
            fullest = max(range(len(packs)), key=lambda index: len(packs[index]))
            pack = packs[fullest]
            packs[fullest], half = pack[: len(pack) // 2], pack[len(pack) // 2 :]
            packs.append(half)
        # The halves stand at the end, and the first packs of a window have the longest samples.
        random.Random(f"order {self.seed} {epoch}").shuffle(packs)
        return packs

    def _compose(self, epoch: int) -> list[list[int]]:
        """Deal windows of shuffled groups; the number of packs is what it happens to be."""
        chance = random.Random(f"compose {self.seed} {epoch}")
        packs: list[list[int]] = []
        window: list[list[int]] = []
        tokens = 0
        for unit in self._units(chance):
            length = sum(self.lengths[index] for index in unit)
            if tokens + length > WINDOW * self.budget:
                packs += deal(window, self.lengths, self.budget)
                window, tokens = [], 0
            window.append(unit)
            tokens += length
        return packs + deal(window, self.lengths, self.budget)

    def _units(self, chance: random.Random) -> list[list[int]]:
        """The samples that had best stay together: a group, or the pieces of one that exceeds the budget."""
        order = [index for index, length in enumerate(self.lengths) if length <= self.budget]
        chance.shuffle(order)
        grouped: dict[Hashable, list[int]] = {}
        for index in order:
            grouped.setdefault(self.groups[index], []).append(index)
        units: list[list[int]] = []
        for members in grouped.values():
            tokens = self.budget
            for index in members:
                tokens += self.lengths[index]
                if tokens > self.budget:
                    units.append([])
                    tokens = self.lengths[index]
                units[-1].append(index)
        return units


def deal(units: Sequence[list[int]], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Deal units, longest first, each to the emptiest pack, over as few packs as that works with.

    So every pack gets long and short samples in like shares, and about as many tokens as any other. Filling one pack
    after another would save none but the last, and put samples of one length together: short answers are another
    kind of answer, and every step of the training would then see one kind.

    A unit that fits nowhere whole is dealt sample by sample: a second pass of the vision tower costs less than an
    empty half of a pack.

    Args:
        units: samples that had best stay together, each unit within the budget.
        lengths: tokens by sample.
        budget: tokens of a pack at most.

    Returns:
        The samples of each pack.

    Source: longest processing time first (Graham 1969).
    """
    count = -(-sum(lengths[index] for unit in units for index in unit) // budget)
    while (packs := _deal_over(count, units, lengths, budget)) is None:
        count += 1
    return [pack for pack in packs if pack]


def _deal_over(
    count: int, units: Sequence[list[int]], lengths: Sequence[int], budget: int
) -> list[list[int]] | None:
    """Deal to exactly `count` packs, some of which may stay empty; None where that does not work."""
    packs: list[list[int]] = [[] for _ in range(count)]
    filled = [(0, pack) for pack in range(count)]

    def place(unit: list[int]) -> bool:
        used, pack = filled[0]
        used += sum(lengths[index] for index in unit)
        if used <= budget:
            heapreplace(filled, (used, pack))
            packs[pack] += unit
        return used <= budget

    def longest_first(found: Sequence[list[int]]) -> list[list[int]]:
        # By classes of length, so that the shuffled order decides within one: else every epoch has the same packs.
        return sorted(found, key=lambda unit: -(sum(lengths[index] for index in unit) * CLASSES // budget))

    broken = [unit for unit in longest_first(units) if not place(unit)]
    return packs if all(map(place, longest_first([[index] for unit in broken for index in unit]))) else None
