"""Which samples share a sequence: lengths to packs, the same on every process and in every restart.

A pack is one row of a batch: samples of different images, or several queries of one, one after another within a
budget of tokens. A pure function of lengths, seed and epoch, so that nothing has to be saved with a checkpoint.
"""

import random
from bisect import bisect_left, insort
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

from geoclick.errors import GeoClickError

WINDOW = 64
"""Budgets' worth of tokens that are packed together: the last pack of a window is the one that stays half empty."""

COMPOSITIONS = 4
"""Epochs that decide how many packs every epoch has."""


@dataclass(frozen=True)
class Packing:
    """Packs of a data set, anew for every epoch, the same number in each.

    The trainer counts the steps of an epoch once, and so the number of packs must not change: epochs that need
    fewer have some of their packs halved.

    Attributes:
        lengths: tokens of each sample, visual ones included.
        groups: of each sample, such as its image; samples of a group stand in one pack where they fit.
        budget: tokens of a pack at most. Longer samples are in no pack; see `too_long`.
        seed: of the run.
        processes: the number of packs is a multiple of it where there are samples enough, so that no process has
            to repeat one.

    Raises:
        GeoClickError: no sample fits.
    """

    lengths: Sequence[int]
    groups: Sequence[Hashable]
    budget: int
    seed: int
    processes: int = 1

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
        return min(-(-most // self.processes) * self.processes, len(self.lengths) - self.too_long)

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
        # Within a window the long samples come first; training should not see that.
        random.Random(f"order {self.seed} {epoch}").shuffle(packs)
        return packs

    def _compose(self, epoch: int) -> list[list[int]]:
        """Best-fit decreasing within windows of shuffled groups; the number of packs is what it happens to be."""
        chance = random.Random(f"compose {self.seed} {epoch}")
        packs: list[list[int]] = []
        window: list[tuple[int, list[int]]] = []
        tokens = 0
        for length, members in self._units(chance):
            if tokens + length > WINDOW * self.budget:
                packs += best_fit(window, self.budget)
                window, tokens = [], 0
            window.append((length, members))
            tokens += length
        return packs + best_fit(window, self.budget)

    def _units(self, chance: random.Random) -> list[tuple[int, list[int]]]:
        """What stays together, as (tokens, samples): a group, or the pieces of one that exceeds the budget."""
        order = [index for index, length in enumerate(self.lengths) if length <= self.budget]
        chance.shuffle(order)
        grouped: dict[Hashable, list[int]] = {}
        for index in order:
            grouped.setdefault(self.groups[index], []).append(index)
        units: list[tuple[int, list[int]]] = []
        for members in grouped.values():
            tokens, unit = 0, []
            for index in members:
                if tokens + self.lengths[index] > self.budget:
                    units.append((tokens, unit))
                    tokens, unit = 0, []
                unit.append(index)
                tokens += self.lengths[index]
            units.append((tokens, unit))
        return units


def best_fit(units: Sequence[tuple[int, list[int]]], budget: int) -> list[list[int]]:
    """Pack units, longest first, each into the fullest pack that still has room for it.

    Args:
        units: (tokens, members), none above the budget.
        budget: tokens of a pack at most.

    Returns:
        The members of each pack.

    Source: best-fit decreasing; at most 11/9 of the optimum and two thirds of a pack (Johnson 1973).
    """
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []
    for tokens, members in sorted(units, key=lambda unit: -unit[0]):
        at = bisect_left(room, (tokens, -1))
        if at < len(room):
            space, pack = room.pop(at)
            packs[pack] += members
        else:
            space, pack = budget, len(packs)
            packs.append(list(members))
        insort(room, (space - tokens, pack))
    return packs
