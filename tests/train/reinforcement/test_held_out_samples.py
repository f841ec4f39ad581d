import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from geoclick import datasets, store
from geoclick.errors import GeoClickError
from geoclick.train.data import held_out
from geoclick.train.reinforcement import held_out_samples
from tests import tiny
from tests.train.samples import listed


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    root = listed(tmp_path_factory.mktemp("data"), [f"query {n}" for n in range(12)])
    return list(datasets.read("folder", root, "train"))


def test_complete_images_are_held_out_in_any_order(samples):
    chosen, rest = held_out_samples.divide(samples, 3)
    assert len(chosen) == 4
    assert not {one.image for one in chosen} & {one.image for one in rest}
    assert sorted(one.sample_id for one in [*chosen, *rest]) == sorted(one.sample_id for one in samples)
    backwards, _ = held_out_samples.divide(samples[::-1], 3)
    assert {one.sample_id for one in backwards} == {one.sample_id for one in chosen}


def test_the_images_are_those_that_supervised_runs_hold_out(tmp_path):
    folder, root = tiny.click_store(tmp_path, rows=12)
    supervised = held_out.select(store.read(folder), root, 4)
    chosen, _ = held_out_samples.divide(held_out.select(store.read(folder), root, 99), 4)
    assert {one.image for one in chosen} == {one.image for one in supervised}


def test_a_missing_image_is_an_error(samples):
    moved = [dataclasses.replace(one, root=Path("/nowhere")) for one in samples]
    with pytest.raises(GeoClickError, match="does not exist"):
        held_out_samples.divide(moved, 1)


@pytest.mark.parametrize(
    ("before", "split", "expected"),
    [
        ({"root": ["/data"], "clicks": ["c"], "evaluate_every": 9, "evaluate_samples": 96}, None, False),
        ({"root": ["/data"], "clicks": ["c"], "evaluate_every": 0, "evaluate_samples": 96}, None, True),
        ({"root": "/data", "clicks": "c", "evaluate_every": 9, "evaluate_samples": 5}, None, True),
        ({"root": "/data", "clicks": "c", "evaluate_every": 0}, "val", False),
        ({"root": "/elsewhere", "clicks": "c", "evaluate_every": 0}, None, False),
        ({"start": {"root": "/data", "clicks": "c"}}, None, True),
        ({"clicks": "c"}, None, False),
    ],
)
def test_images_that_the_adapter_was_trained_on_are_known(before, split, expected):
    options = SimpleNamespace(root="/data", evaluate_split=split, evaluate_samples=96)
    assert held_out_samples.was_trained_on(options, SimpleNamespace(config=before)) == expected
