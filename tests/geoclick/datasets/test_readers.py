import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoclick import datasets
from geoclick.datasets import NAMES
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.readers import READERS
from geoclick.scenes.copies import LAYOUTS


def samples(name, root, split):
    """Everything about the samples of a split but the spelling of the root."""
    left = []
    rows = [
        (sample.sample_id, sample.task, sample.query, sample.image, sample.size, sample.rle, sample.category)
        for sample in datasets.read(name, root, split, on_left_out=left.append)
    ]
    return rows, [(item.item, item.reason) for item in left]


def test_every_name_has_a_reader():
    assert set(READERS) == set(NAMES)
    assert set(BENCHMARKS) <= set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) & set(NAMES)))
def test_a_relative_root_gives_the_samples_of_the_absolute_one(tmp_path, monkeypatch, name):
    LAYOUTS[name](tmp_path / "data", 2, 0)
    split = BENCHMARKS[name].split if name in BENCHMARKS else "val"
    monkeypatch.chdir(tmp_path)
    absolute = samples(name, tmp_path / "data", split)
    assert absolute[0]
    assert samples(name, Path("data"), split) == absolute


@pytest.mark.parametrize("place", [".", "train"])
def test_a_legend_counts_under_a_relative_root(tmp_path, monkeypatch, place):
    for folder in ("images", "masks"):
        (tmp_path / "data" / place / folder).mkdir(parents=True)
        colors = np.zeros((24, 24, 3), np.uint8)
        colors[:, 12:] = (0, 0, 255)
        Image.fromarray(colors).save(tmp_path / "data" / place / folder / "a.png")
    legend = {"classes": {"bare land": [0, 0, 0], "water": [0, 0, 255]}}
    (tmp_path / "data/classes.json").write_text(json.dumps(legend))
    monkeypatch.chdir(tmp_path)
    rows, left = samples("folder", Path("data"), "train")
    assert [row[2] for row in rows] == ["bare land", "water"]
    assert left == []
