import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from geoclick import config, datasets, options
from geoclick.datasets import NAMES, ReadOptions
from geoclick.errors import UsageError
from geoclick.options import DatasetOptions


def test_the_defaults_are_those_of_the_readers():
    assert DatasetOptions().reading() == ReadOptions()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_area_fraction": 0.0},
        {"max_area_fraction": 1.5},
        {"bands": (1, 2)},
        {"stretch": (2.0,)},
        {"stretch": (98.0, 2.0)},
        {"stretch": (2.0, 101.0)},
    ],
)
def test_what_no_reader_can_use_is_refused(wrong):
    name = next(iter(wrong))
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
        DatasetOptions(**wrong).reading()


@pytest.mark.parametrize(
    ("given", "percentiles"),
    [
        (["percentile"], (2.0, 98.0)),
        (["minmax"], (0.0, 100.0)),
        (["none"], ()),
        (["1", "60"], (1.0, 60.0)),
    ],
)
def test_a_stretch_has_a_name_or_two_percentiles(tmp_path, given, percentiles):
    names = {"prog": "p", "description": "", "example": ""}
    options = config.parse(DatasetOptions, ["--stretch", *given], **names)
    assert options.stretch == options.reading().stretch == options.pixels().stretch == percentiles
    config.write_config(options, tmp_path)
    assert config.parse(DatasetOptions, ["--config", str(tmp_path / "config.yaml")], **names) == options


def test_the_samples_of_a_folder_are_shown_by_the_options(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    pixels = np.arange(1000, 1256, dtype="uint16").reshape(16, 16)
    Image.fromarray(pixels).save(tmp_path / "images/a.tif")
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(tmp_path / "masks/a.png")
    (sample,) = datasets.read("folder", tmp_path, "test")
    assert sample.read_image()[..., 0].max() == 255
    assert sample.read_image()[..., 0].min() == 0
    (sample,) = datasets.read("folder", tmp_path, "test", options=ReadOptions(stretch=(0.0, 100.0)))
    assert np.array_equal(sample.read_image()[..., 1], np.arange(256).reshape(16, 16))
    (sample,) = datasets.read("folder", tmp_path, "test", options=ReadOptions(stretch=()))
    assert (sample.read_image() == 255).all()


def test_the_help_names_every_dataset():
    (dataset,) = (field for field in dataclasses.fields(DatasetOptions) if field.name == "dataset")
    named = set(re.findall(r"[a-z][a-z0-9-]+", dataset.metadata["help"]))
    assert named >= set(NAMES)


@pytest.mark.parametrize(
    ("values", "device", "backend", "sentence"),
    [
        ({"workers": 2}, "auto", "local", "options of --engine ray"),
        ({"engine": "ray"}, "auto", "openai", "raise --concurrency"),
        ({"engine": "ray"}, "auto", "vllm", "--backend vllm runs in one process"),
        ({"engine": "ray"}, "cuda:1", "local", "--device must be auto, cpu or cuda, not cuda:1"),
    ],
)
def test_an_engine_that_does_not_fit_is_refused(monkeypatch, values, device, backend, sentence):
    monkeypatch.setattr(options, "find_spec", lambda name: True)
    with pytest.raises(UsageError, match=sentence):
        options.EngineOptions(**values).check_engine(device, backend)
