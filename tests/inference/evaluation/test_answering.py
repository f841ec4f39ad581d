from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from geoclick import images
from geoclick.inference.evaluation import answering
from geoclick.inference.evaluation.options import EvaluateOptions, resolve
from geoclick.inference.generative.prediction import Prediction
from tests.inference.evaluation.test_run_folder import samples


@dataclass
class Recorder:
    """A predictor that stores what it receives and draws one number for each batch."""

    uses_models: ClassVar[bool] = True

    def __post_init__(self):
        self.images, self.numbers = [], []

    def describe(self):
        return {}

    def predict(self, samples, images):
        self.images.append(images)
        self.numbers.append(torch.rand(()).item())
        return [Prediction(sample.mask, (), text=sample.sample_id) for sample in samples]


@pytest.fixture
def options():
    return resolve(EvaluateOptions(output="out", root="data", seed=3))


@pytest.fixture
def batch(tmp_path):
    for name in range(3):
        images.write_png(tmp_path / f"{name}.png", np.full((2, 2, 3), name, np.uint8))
    return [(i, replace(sample, root=tmp_path)) for i, sample in enumerate(samples(5))]


def test_records_follow_the_samples_and_share_the_images(options, batch):
    predictor = Recorder()
    records = answering.answer_batch(options, predictor, batch)
    assert [record["text"] for record in records] == [f"s{i}" for i in range(5)]
    (received,) = predictor.images
    assert [int(image[0, 0, 0]) for image in received] == [0, 1, 2, 0, 1]
    assert received[0] is received[3]


def test_sampling_depends_on_the_batch_and_the_seed_only(options, batch):
    predictor = Recorder()
    for part in (batch[:2], batch[2:], batch[:2]):
        answering.answer_batch(options, predictor, part)
    answering.answer_batch(replace(options, seed=4), predictor, batch[:2])
    first, second, again, other = predictor.numbers
    assert first == again
    assert len({first, second, other}) == 3


def test_without_models_no_image_is_read(options, batch, monkeypatch):
    predictor = Recorder()
    monkeypatch.setattr(Recorder, "uses_models", False)
    missing = [(i, replace(sample, image="missing.png")) for i, sample in batch]
    answering.answer_batch(options, predictor, missing)
    assert predictor.images == [[]]
