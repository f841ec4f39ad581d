"""Parts of a dataset: random picks and first samples."""

import itertools
from types import SimpleNamespace

import pytest

from geoclick.datasets import selection
from geoclick.errors import UsageError

SAMPLES = [SimpleNamespace(sample_id=f"s{n}") for n in range(40)]


def test_a_pick_depends_on_seed_and_ids_only_and_has_the_datasets_order():
    picks = {seed: selection.select(SAMPLES, limit=5, seed=seed) for seed in range(10)}
    assert all(sorted(pick, key=SAMPLES.index) == pick and len(pick) == 5 for pick in picks.values())
    assert len({tuple(sample.sample_id for sample in pick) for pick in picks.values()}) == 10
    assert selection.select(reversed(SAMPLES), limit=5, seed=3) == picks[3][::-1]


def test_the_first_are_read_and_no_more():
    stream = iter(SAMPLES)
    assert selection.select(stream, first=3) == SAMPLES[:3]
    assert next(stream) is SAMPLES[3]
    assert selection.select(SAMPLES) == SAMPLES
    assert selection.select(SAMPLES, limit=99) == SAMPLES


def test_both_are_refused():
    with pytest.raises(UsageError, match="exclude each other"):
        selection.check(3, 3)
    for limit, first in itertools.product((None, 3), repeat=2):
        if not (limit and first):
            selection.check(limit, first)
