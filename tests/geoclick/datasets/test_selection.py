"""Parts of a dataset: random picks and first samples, and those of complete images."""

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


def of_images(*counts):
    """Samples of images with so many samples each."""
    return [
        SimpleNamespace(sample_id=f"{image}/{n}", image=f"{image}.png", root="data")
        for image, count in enumerate(counts)
        for n in range(count)
    ]


@pytest.mark.parametrize(("count", "expected"), [(1, 3), (3, 3), (4, 5), (5, 5), (6, 9), (99, 9)])
def test_the_first_images_are_complete(count, expected):
    samples = of_images(3, 2, 4)
    assert list(selection.first_images(iter(samples), count)) == samples[:expected]


def test_a_pick_of_images_takes_those_of_the_lowest_rank_until_there_are_enough_samples():
    samples = of_images(*[3, 1, 2] * 10)
    complete = {sample.image: [s for s in samples if s.image == sample.image] for sample in samples}
    picks = {limit: selection.pick_images(iter(samples), limit, 5) for limit in (1, 7, 20, 59, 60, 99)}
    for limit, pick in picks.items():
        images = list(dict.fromkeys(sample.image for sample in pick))
        assert pick == [sample for image in images for sample in complete[image]]
        assert pick == sorted(pick, key=samples.index)
        assert len(pick) >= min(limit, 60)
        # Without the image of the highest rank there are too few.
        assert len(pick) - max(len(complete[image]) for image in images) < limit
    sets = [{sample.image for sample in picks[limit]} for limit in (1, 7, 20, 59)]
    assert all(one <= other for one, other in itertools.pairwise(sets))
    assert picks[60] == picks[99] == samples
    assert len({selection.pick_images(samples, 3, seed)[0].image for seed in range(20)}) > 3
    shuffled = [sample for image in reversed(complete) for sample in complete[image]]
    again = {sample.image for sample in selection.pick_images(shuffled, 20, 5)}
    assert again == {sample.image for sample in picks[20]}
