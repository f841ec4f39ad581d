from collections import Counter

import pytest
from datasets import Dataset
from hypothesis import assume, given
from hypothesis import strategies as st

from geoclick.errors import GeoClickError
from geoclick.train.augmentation.augmented_dataset import AugmentedDataset
from geoclick.train.data.length_groups import LengthGroups
from geoclick.train.data.mixture import STOPPING, MixedDataset, Mixture
from geoclick.train.packing.mixed_plan import MixedPlan


@st.composite
def mixtures(draw):
    sizes = draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))
    weights = draw(st.lists(st.floats(0.05, 1), min_size=len(sizes), max_size=len(sizes)))
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    members = [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    return Mixture(members, weights, draw(st.sampled_from(STOPPING)), draw(st.integers(0, 3)))


@given(mixtures(), st.integers(0, 9))
def test_every_epoch_has_the_shares_of_the_weights(mixture, epoch):
    keys = mixture.keys(epoch)
    assert len(keys) == len(mixture)
    for rows, count, weight in zip(mixture.members, mixture.counts, mixture.weights, strict=True):
        assert sum(row in rows for _, row in keys) == count
        wanted = weight / sum(mixture.weights) * len(mixture)
        assert abs(count - wanted) <= len(mixture.counts) / 2 + 1


@given(mixtures())
def test_an_epoch_ends_when_the_first_or_when_all_sources_are_used(mixture):
    sizes = [len(rows) for rows in mixture.members]
    used = [count / size for count, size in zip(mixture.counts, sizes, strict=True)]
    if mixture.stopping == "first":
        assert max(used) == 1 or 1 in mixture.counts
        assert all(count <= size for count, size in zip(mixture.counts, sizes, strict=True))
    else:
        assert min(used) == 1


@given(mixtures(), st.integers(1, 6))
def test_the_rows_of_a_source_are_used_equally_often(mixture, epochs):
    keys = Counter(key for epoch in range(epochs) for key in mixture.keys(epoch))
    assert set(keys.values()) == {1}, "a pass has each row once"
    used = Counter(row for _, row in keys)
    for rows in mixture.members:
        numbers = [used[row] for row in rows]
        assert max(numbers) - min(numbers) <= 1


def test_epochs_follow_from_the_seed_and_differ():
    members = [range(0, 40), range(40, 50)]
    mixture = Mixture(members, [0.5, 0.5], "first", 7)
    assert len(mixture) == 20
    assert mixture.keys(3) == Mixture(members, [2, 2], "first", 7).keys(3)
    others = [mixture.keys(3), mixture.keys(4), Mixture(members, [0.5, 0.5], "first", 8).keys(3)]
    assert len({tuple(keys) for keys in others}) == 3
    assert Mixture(members, [0.5, 0.5], "all", 7).counts == (40, 40)


def test_sources_are_mixed_within_an_epoch():
    mixture = Mixture([range(0, 300), range(300, 600)], [2, 1], "first", 0)
    half = [row >= 300 for _, row in mixture.keys(0)[:225]]
    assert len(mixture) == 450
    assert 50 < sum(half) < 100


@given(mixtures(), st.integers(1, 3), st.integers(0, 7), st.randoms())
def test_packs_hold_the_rows_of_the_mixture(mixture, per_step, epoch, random):
    rows = sum(map(len, mixture.members))
    lengths = [random.randint(1, 40) for _ in range(rows)]
    assume(all(any(lengths[i] <= 30 for i in members) for members in mixture.members))
    fitting = mixture.only(lambda index: lengths[index] <= 30)
    plan = MixedPlan(lengths, [i // 2 for i in range(rows)], 30, fitting, per_step, 0)
    packs = plan.keys(epoch)
    assert len(packs) == plan.count
    assert plan.count % per_step == 0 or plan.count == len(fitting)
    assert all(0 < sum(lengths[index] for _, index in pack) <= 30 for pack in packs)
    found = sorted(key for pack in packs for key in pack)
    assert found in (sorted(fitting.keys(epoch)), sorted(fitting.keys(epoch % 4)))
    assert plan.packs(epoch) == [[index for _, index in pack] for pack in packs]
    assert 0 < plan.filled <= 1


def test_a_source_whose_rows_are_all_too_long_is_an_error():
    mixture = Mixture([range(3), range(3, 6)], [1, 1], "all", 0)
    with pytest.raises(GeoClickError, match="No row of source 2 fits packing_tokens"):
        mixture.only(lambda index: index < 3)


def test_datasets_take_their_rows_from_the_mixture():
    rows = Dataset.from_dict({"n": range(12), "sample_id": [None] * 12})
    mixture = Mixture([range(8), range(8, 12)], [1, 2], "all", 0)
    groups = LengthGroups(rows, list(range(12)), seed=0, per_step=2, mixture=mixture)
    mixed, augmented = MixedDataset(rows, mixture), AugmentedDataset(rows, None, mixture)
    for dataset in (mixed, augmented, groups):
        dataset.set_epoch(2)
        assert len(dataset) == len(dataset.keys()) == 24
    assert mixed.keys() == augmented.keys() == mixture.keys(2)
    assert sorted(groups.keys()) == sorted(index for _, index in mixture.keys(2))
    assert mixed[(1, 9)]["n"] == 9
