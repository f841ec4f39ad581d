"""The benchmarks that ship with the package are fixed, balanced, and unlike what is trained on."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from geoclick import datasets, files
from geoclick.data_synthesis import run as synth
from geoclick.datasets import scene_benchmarks
from geoclick.errors import GeoClickError, UsageError
from geoclick.geo.reading import read_image
from geoclick.scenes import SIZE, generate, render
from geoclick.scenes.drawing import sample_scene, write_split
from geoclick.scenes.varied_layout import generate_varied

BEGINNINGS = {
    "scenes-v1": "8629db9cc3ab163a7e5cd4bedce6f29f54bdd217e38fbc20c6242d17009edb7a",
    "scenes-v2": "dcc61e4785342b0df0f59600684d836ba5d008d964b707efa0766e0d822e9e6d",
}
"""SHA-256 of the first 30 lines of `samples.jsonl`, which take a second instead of half a minute."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "v1"
    scene_benchmarks.draw("scenes-v1", root)
    return root


@pytest.mark.parametrize("name", scene_benchmarks.BENCHMARKS)
def test_the_first_samples_are_the_same_everywhere(name, tmp_path):
    write_split(tmp_path, replace(scene_benchmarks.BENCHMARKS[name].options, count=30), 1)
    assert files.sha256(tmp_path / "samples.jsonl") == BEGINNINGS[name]


@pytest.mark.slow
def test_it_has_the_same_samples_everywhere_and_equal_shares_of_all_tasks(root):
    samples = list(datasets.read("scenes-v1", root, "test"))
    assert len(samples) == 1000
    assert Counter(s.task for s in samples) == {"referring": 334, "reasoning": 333, "no_target": 333}
    assert {s.dataset for s in samples} == {"scenes-v1"}
    assert samples[1].read_image().shape == (SIZE, SIZE, 3)
    assert samples[0].mask.any()


@pytest.mark.slow
def test_a_benchmark_without_one_sample_is_refused(root, tmp_path):
    (tmp_path / "test").mkdir()
    lines = (root / "test" / "samples.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "test" / "samples.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(GeoClickError, match="remove"):
        datasets.read("scenes-v1", tmp_path, "test")


def test_another_benchmark_under_its_name_is_refused(tmp_path):
    write_split(tmp_path / "test", replace(scene_benchmarks.BENCHMARKS["scenes-v1"].options, count=3), 1)
    with pytest.raises(GeoClickError, match="remove"):
        datasets.read("scenes-v1", tmp_path, "test")
    with pytest.raises(UsageError, match="split test only"):
        datasets.read("scenes-v1", tmp_path, "train")


def test_only_the_benchmark_inside_needs_no_root(capsys):
    assert datasets.root_of("scenes-v1", None) == "runs/scenes-v1"
    assert datasets.root_of("scenes-v2", None) == "runs/scenes-v2"
    assert datasets.root_of("scenes-v1", "there") == "there"
    assert synth.main(["--output", "nowhere"]) == 2
    assert "--root" in capsys.readouterr().err


def small(image):
    """Means of squares of 16 pixels in every turn and mirroring, float [8, 16 * 16 * 3]."""
    small = image.reshape(16, 16, 16, 16, 3).mean((1, 3))
    turned = [np.rot90(small, turns) for turns in range(4)]
    return np.stack([t for turn in turned for t in (turn, turn[:, ::-1])]).reshape(8, -1)


@pytest.fixture(scope="module")
def trained():
    """Means of 1,200 training scenes."""
    images = [render(generate((1000, 2, i), 2))[0] for i in range(600)]  # those of the embedded VLM
    images += [render(generate_varied((1000, 2, i)))[0] for i in range(300)]  # the same, of version 2
    images += [sample_scene(0, "train", i, ("referring",))[0] for i in range(300)]  # those of the demo
    return np.stack([small(image.astype(np.float32))[0] for image in images])


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", ["scenes-v1", "scenes-v2"])
def test_a_held_out_scene_is_no_copy_of_a_training_scene(benchmark, trained, tmp_path):
    """The nearest training scene, however turned, is a different picture: as far as a stranger can be near.

    The yardstick is what a scene is to itself under new noise and light, that is, to the same layout seen again.
    """
    scene_benchmarks.draw(benchmark, tmp_path / "root")
    paths = sorted((tmp_path / "root" / "test" / "images").iterdir())[::14]
    held_out = [read_image(path).astype(np.float32) for path in paths]
    assert len(held_out) >= 17
    for image in held_out:
        views = small(image)
        nearest = min(np.abs(trained - view).mean(1).min() for view in views)
        again = small(np.clip(image * 1.05 + np.random.default_rng(0).normal(0, 8, image.shape), 0, 255))
        assert nearest > 2 * np.abs(again[0] - views[0]).mean()


@pytest.mark.slow
def test_version_2_has_equal_shares_of_six_tasks(tmp_path):
    samples = list(datasets.read("scenes-v2", tmp_path / "v2", "test"))
    assert set(Counter(s.task for s in samples).values()) == {250}
    assert len(samples) == 1500
    assert len({s.task for s in samples}) == 6
