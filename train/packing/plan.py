"""Which samples share a sequence: lengths to packs, the same on every process and after every restart.

A pack is one row of a batch: samples on different images, or several queries on one, one after another within a
budget of tokens. Packs are a pure function of lengths, seed and epoch, so that a checkpoint need not store them.
"""

import random
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapreplace
from typing import NamedTuple, TypeVar

from geoclick.errors import GeoClickError

Sample = TypeVar("Sample")

WINDOW = 256
"""Packs that are filled together: about one pack's worth of tokens stays empty in all of them."""

CLASSES = 32
"""Length classes up to the budget; the order within a class is random."""

COMPOSITIONS = 4
"""Epochs whose packs are counted to decide the number of packs of every epoch."""


@dataclass(frozen=True)
class PackingPlan:
    """Packs of a dataset: others in every epoch, the same number in each.

    The trainer counts the steps of an epoch once, so the number of packs must not change: in epochs that need
    fewer, some packs are halved.

    Attributes:
        lengths: tokens of each sample, visual ones included.
        groups: group of each sample, such as its image; the samples of a group share a pack unless that leaves a
            pack half empty.
        budget: largest number of tokens of a pack. Longer samples are in no pack; see `too_long`.
        seed: of the run.
        per_step: packs of a step, over all processes and accumulated ones. The number of packs is a multiple of it
            if there are enough samples: no process repeats a pack, all steps have the same size, and the packs do
            not depend on how many processes share a step.

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
        return self.count_for(max(len(self.compose(epoch)) for epoch in range(COMPOSITIONS)))

    def count_for(self, most: int) -> int:
        """Packs of every epoch, if no epoch composes more than `most`."""
        return min(-(-most // self.per_step) * self.per_step, len(self.lengths) - self.too_long)

    @property
    def filled(self) -> float:
        """Fraction of the budgets that samples fill."""
        return sum(n for n in self.lengths if n <= self.budget) / (self.count * self.budget)

    def packs(self, epoch: int) -> list[list[int]]:
        """The packs of an epoch in order, each a list of sample indices; every sample that fits is in one pack."""
        packs = self.compose(epoch)
        if len(packs) > self.count:
            # Rare: reuse the packs of an epoch that is known to fit, instead of leaving samples out.
            packs = self.compose(epoch % COMPOSITIONS)
        return exactly(packs, self.count, f"order {self.seed} {epoch}")

    def compose(self, epoch: int) -> list[list[int]]:
        """Packs of windows of shuffled groups, however many they are."""
        generator = random.Random(f"compose {self.seed} {epoch}")
        packs: list[list[int]] = []
        window: list[Unit] = []
        tokens = 0
        for unit in self._units(generator):
            if tokens + unit.tokens > WINDOW * self.budget:
                packs += fill_packs(window, self.lengths, self.budget)
                window, tokens = [], 0
            window.append(unit)
            tokens += unit.tokens
        return packs + fill_packs(window, self.lengths, self.budget)

    def _units(self, generator: random.Random) -> Iterator["Unit"]:
        """The samples that should share a pack: a group, or the parts of one that exceeds the budget."""
        order = [index for index, length in enumerate(self.lengths) if length <= self.budget]
        generator.shuffle(order)
        grouped: defaultdict[Hashable, list[int]] = defaultdict(list)
        for index in order:
            grouped[self.groups[index]].append(index)
        for members in grouped.values():
            unit = Unit.of(members, self.lengths)
            if unit.tokens <= self.budget:
                yield unit
                continue
            part: list[int] = []
            tokens = 0
            for index in members:
                if tokens + self.lengths[index] > self.budget:
                    yield Unit(tokens, part)
                    part, tokens = [], 0
                part.append(index)
                tokens += self.lengths[index]
            yield Unit(tokens, part)


def exactly(packs: list[list[Sample]], count: int, seed: str) -> list[list[Sample]]:
    """Packs in random order, the longest ones halved until there are `count`."""
    while len(packs) < count:
        fullest = max(range(len(packs)), key=lambda index: len(packs[index]))
        pack = packs[fullest]
        packs[fullest], half = pack[: len(pack) // 2], pack[len(pack) // 2 :]
        packs.append(half)
    # The halves are at the end, and the first packs of a window have the longest samples.
    random.Random(seed).shuffle(packs)
    return packs


class Unit(NamedTuple):
    """Samples that should share a pack.

    Attributes:
        tokens: of all of them.
        samples: their indices.
    """

    tokens: int
    samples: list[int]

    @classmethod
    def of(cls, samples: list[int], lengths: Sequence[int]) -> "Unit":
        """The unit of some samples, given the tokens by sample."""
        return cls(sum(map(lengths.__getitem__, samples)), samples)


def fill_packs(units: Sequence[Unit], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Units in as few packs as possible: longest first, each into the emptiest pack.

    All packs get about the same number of tokens and the same mix of long and short samples. Filling one pack after
    another would save at most one pack and would put samples of one length together: short answers differ in kind
    from long ones, so each training step would see one kind only.

    A unit that fits into no pack is split into its samples: a second pass of the vision tower costs less than a
    half-empty pack.

    Args:
        units: each within the budget.
        lengths: tokens by sample.
        budget: largest number of tokens of a pack.

    Returns:
        The samples of each pack.

    Source: longest processing time first (Graham 1969).
    """
    # By length class, so that the shuffled order decides within a class: else every epoch has the same packs.
    ordered = sorted(units, key=lambda unit: -(unit.tokens * CLASSES // budget))
    count = -(-sum(unit.tokens for unit in units) // budget)
    while (packs := _fill_exactly(count, ordered, lengths, budget)) is None:
        count += 1
    return [pack for pack in packs if pack]


def _fill_exactly(
    count: int, units: Sequence[Unit], lengths: Sequence[int], budget: int
) -> list[list[int]] | None:
    """Units, the longest first, in exactly `count` packs, some of which may be empty; None if they do not fit."""
    packs: list[list[int]] = [[] for _ in range(count)]
    filled = [(0, pack) for pack in range(count)]
    broken: list[int] = []
    for tokens, samples in units:
        used, pack = filled[0]
        if used + tokens <= budget:
            heapreplace(filled, (used + tokens, pack))
            packs[pack] += samples
        else:
            broken += samples
    for index in sorted(broken, key=lambda index: -(lengths[index] * CLASSES // budget)):
        used, pack = filled[0]
        used += lengths[index]
        if used > budget:
            return None
        heapreplace(filled, (used, pack))
        packs[pack].append(index)
    return packs
