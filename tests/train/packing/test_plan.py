from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from geoclick.errors import GeoClickError
from geoclick.train.packing.plan import PackingPlan, Unit, fill_packs

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80)


@st.composite
def packings(draw):
    lengths = draw(LENGTHS)
    groups = draw(st.lists(st.integers(0, 10), min_size=len(lengths), max_size=len(lengths)))
    budget = draw(st.integers(1, 80))
    assume(min(lengths) <= budget)
    return PackingPlan(lengths, groups, budget, draw(st.integers(0, 5)), draw(st.integers(1, 4)))


@given(packings(), st.integers(0, 12))
def test_every_sample_that_fits_is_in_one_pack_and_no_pack_is_over_budget(packing, epoch):
    packs = packing.packs(epoch)
    expected = Counter(i for i, length in enumerate(packing.lengths) if length <= packing.budget)
    assert Counter(index for pack in packs for index in pack) == expected
    assert len(expected) + packing.too_long == len(packing.lengths)
    assert all(0 < sum(packing.lengths[i] for i in pack) <= packing.budget for pack in packs)
    assert 0 < packing.filled <= 1


@given(packings(), st.integers(0, 12))
def test_every_epoch_has_the_same_number_of_packs_and_steps_share_them_evenly(packing, epoch):
    count = len(packing.packs(epoch))
    assert count == packing.count
    assert count % packing.per_step == 0 or count == len(packing.lengths) - packing.too_long


@given(packings(), st.integers(0, 12))
def test_packs_follow_from_seed_and_epoch_alone(packing, epoch):
    again = PackingPlan(packing.lengths, packing.groups, packing.budget, packing.seed, packing.per_step)
    again.packs(epoch + 1)
    assert again.packs(epoch) == packing.packs(epoch) == packing.packs(epoch)


def test_epochs_and_seeds_make_other_packs():
    lengths = [100 + i for i in range(200)]
    plans = [
        PackingPlan(lengths, range(200), 1000, seed, 1).packs(epoch)
        for seed, epoch in [(0, 0), (0, 1), (1, 0)]
    ]
    sets = [{frozenset(pack) for pack in packs} for packs in plans]
    assert all(len(one & two) < len(one) / 2 for one, two in zip(sets, sets[1:] + sets[:1], strict=True))


@pytest.mark.parametrize(("budget", "apart"), [(300, 1.0), (512, 1.9), (2048, 1.2), (100000, 1.0)])
def test_queries_of_an_image_stay_together_unless_that_leaves_packs_empty(budget, apart):
    """Three queries an image, 300 tokens an image; `apart` is the mean number of packs that show an image."""
    groups = [index // 3 for index in range(900)]
    packing = PackingPlan([100] * 900, groups, budget, seed=0)
    shown = {(groups[index], number) for number, pack in enumerate(packing.packs(0)) for index in pack}
    assert 1 <= len(shown) / 300 <= apart
    assert packing.filled > 0.97 * (budget // 100 * 100) / budget or packing.count == 1


@given(st.lists(st.lists(st.integers(1, 10), min_size=1, max_size=5), min_size=1, max_size=30))
def test_packs_are_few_and_even(units):
    """At most twice as few as tokens allow, and none differs from another by more than the longest unit."""
    lengths = [length for unit in units for length in unit]
    numbers = iter(range(len(lengths)))
    numbered = [Unit.of([next(numbers) for _ in unit], lengths) for unit in units]
    packs = fill_packs(numbered, lengths, 50)
    assert sorted(index for pack in packs for index in pack) == list(range(len(lengths)))
    fills = [sum(lengths[i] for i in pack) for pack in packs]
    assert max(fills) <= 50
    assert max(fills) - min(fills) <= max(unit.tokens for unit in numbered)
    assert len(packs) <= 2 * -(-sum(lengths) // 50) + 1


def test_every_pack_mixes_short_and_long_samples():
    lengths = [90] * 300 + [60] * 300
    packs = PackingPlan(lengths, range(600), 2048, seed=0).packs(0)
    shares = [sum(lengths[i] == 90 for i in pack) / len(pack) for pack in packs]
    assert all(0.4 < share < 0.6 for share in shares)


def test_windows_waste_little_on_many_samples():
    lengths = [100 + (i * 37) % 300 for i in range(5000)]
    packing = PackingPlan(lengths, range(5000), 4096, seed=0, per_step=8)
    assert packing.filled > 0.97


def test_a_budget_below_the_shortest_sample_is_refused():
    with pytest.raises(GeoClickError, match="the shortest one has 7 tokens"):
        PackingPlan([9, 7, 8], [0, 1, 2], 6, 0)
