import numpy as np
import pytest
import torch

from geoclick.clips.loading import NORMALIZATION
from geoclick.devices import BatchSize
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.contrastive import classes, dense, resizing
from tests import tiny_clips
from tests.inference.contrastive import loops

METHODS = ["clip", "maskclip", "sclip", "gem", "clearclip", "segearth-ov"]


@pytest.fixture(scope="module")
def model():
    return tiny_clips.clip()


def random_image(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(
        0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8
    )
    return coarse.repeat(4, 0).repeat(4, 1)[:height, :width]


def texts(count, dim=24):
    values = torch.randn(count, dim, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.normalize(values, dim=-1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(50, 70), (20, 90)], ids=str)
def test_windows_equal_a_loop_over_windows_and_pixels(method, size, model):
    image, text = random_image(*size), texts(3)
    options = {"window": 32, "stride": 16, "class_bias": -0.3}
    logits = dense.window_logits(model, image, text, method, long_side=60, **options)
    resized = resizing.resize_long_side(image, 60)
    mean, std = NORMALIZATION["clip"]
    expected = loops.window_logits(model, resized, size, text, method, 32, 16, -0.3, mean, std)
    assert logits.dtype == torch.float32
    assert logits.shape == (3, *size)
    assert (logits - expected).abs().max() < 1e-4


def test_siglip_has_windows_but_no_class_bias():
    model, image, text = tiny_clips.siglip(), random_image(40, 50), texts(2, 32)
    logits = dense.window_logits(model, image, text, "maskclip", long_side=50, window=32, stride=16)
    mean, std = NORMALIZATION["siglip"]
    resized = resizing.resize_long_side(image, 50)
    expected = loops.window_logits(model, resized, (40, 50), text, "maskclip", 32, 16, 0, mean, std)
    assert (logits - expected).abs().max() < 1e-4
    with pytest.raises(GeoClickError, match="SigLIP has no class token"):
        dense.window_logits(model, image, text, "maskclip", long_side=50, class_bias=-0.3)


def test_batches_of_windows_equal_one_window_at_a_time(model):
    image, text = random_image(70, 100), texts(4)

    def logits(size):
        batch = BatchSize(size, "windows")
        options = dense.WindowOptions(long_side=100, window=32, stride=16, class_bias=-0.3, batch=batch)
        return dense.small_logits(model, image, text, "segearth-ov", options)

    one = logits(1)
    for size in (2, 5, 100):
        assert (logits(size) - one).abs().max() < 1e-5


def test_windows_cover_the_image_and_the_last_ones_end_with_it():
    corners, size = dense.windows((448, 300), 224, 112)
    assert size == (224, 224)
    assert corners == [(r, c) for r in (0, 112, 224) for c in (0, 76)]
    assert dense.windows((100, 448), 224, 112) == ([(0, 0), (0, 112), (0, 224)], (100, 224))
    assert dense.windows((100, 448), 0, 112) == ([(0, 0)], (100, 448))
    assert len(dense.windows((224, 225), 224, 112)[0]) == 2


def test_one_window_of_the_complete_image(model):
    image, text = random_image(64, 40), texts(2)
    logits = dense.window_logits(model, image, text, "clip", long_side=64, window=0)
    mean, std = NORMALIZATION["clip"]
    expected = loops.window_logits(model, image, (64, 40), text, "clip", 64, 1, 0, mean, std)
    assert (logits - expected).abs().max() < 1e-4


def test_mean_and_std_of_the_model_are_used(model):
    image, text = random_image(32, 32), texts(2)
    mean, std = (0.3, 0.4, 0.5), (0.2, 0.3, 0.1)
    options = dense.WindowOptions(long_side=32, window=32, mean=mean, std=std)
    logits = dense.small_logits(model, image, text.numpy(), "sclip", options)
    expected = loops.window_logits(model, image, (32, 32), text, "sclip", 32, 32, 0, mean, std)
    assert (logits - expected).abs().max() < 1e-4


@pytest.mark.parametrize("threshold", [0.0, 0.35, 0.9])
@pytest.mark.parametrize("numbers", [[0, 1, 1, 2, 2, 2], [2, 0, 1, 0, 2, 4], [0, 1, 2, 3, 4, 5]], ids=str)
def test_labels_equal_a_loop_over_pixels(numbers, threshold):
    logits = torch.randn(6, 9, 7, generator=torch.Generator().manual_seed(1)) * 0.05
    labels = dense.labels(logits, numbers, scale=40.0, threshold=threshold, background=1)
    assert labels.shape == (9, 7)
    assert labels.dtype == np.int32
    assert np.array_equal(labels, loops.labels(logits, numbers, 40.0, threshold, 1).numpy())


def test_labels_of_parts_equal_those_at_once(monkeypatch):
    logits = torch.randn(5, 40, 30, generator=torch.Generator().manual_seed(1)) * 0.1
    listed = classes.parse("background; road, street; water, river")
    expected = dense.labels(logits, listed, threshold=0.5)
    assert len(np.unique(expected)) == 3
    monkeypatch.setattr(dense, "CHUNK", 100)
    assert np.array_equal(dense.labels(logits.numpy(), np.array([0, 1, 1, 2, 2]), threshold=0.5), expected)


def test_synonyms_take_the_largest_probability_or_the_sum():
    logits = torch.tensor([0.30, 0.29, 0.29]).view(3, 1, 1)
    assert dense.labels(logits, [0, 1, 1]).item() == 0
    assert dense.labels(logits, [0, 1, 1], synonyms="sum").item() == 1
    largest = dense.class_probabilities(logits, [0, 1, 1])
    summed = dense.class_probabilities(logits, [0, 1, 1], synonyms="sum")
    assert summed.sum().item() == pytest.approx(1)
    assert largest[1].item() == pytest.approx(summed[1].item() / 2)
    assert dense.class_probabilities(logits, [0, 3, 3])[1:3].abs().max() == 0


def test_a_threshold_of_at_most_one_in_the_number_of_queries_never_applies():
    logits = torch.randn(4, 20, 20, generator=torch.Generator().manual_seed(1)) * 0.001
    assert np.array_equal(
        dense.labels(logits, 4, threshold=0.25), dense.labels(logits, range(4), threshold=0)
    )


def test_wrong_requests_are_one_sentence(model):
    with pytest.raises(GeoClickError, match="300x7 pixels is smaller than a patch of 8x8"):
        dense.window_logits(model, random_image(7, 300), texts(2), "clip")
    with pytest.raises(UsageError, match="Unknown dense method"):
        dense.window_logits(model, random_image(40, 40), texts(2), "dense")
    with pytest.raises(GeoClickError, match="3 queries have 2 classes"):
        dense.labels(torch.zeros(3, 2, 2), [0, 1])


def test_windows_that_do_not_fit_the_gpu_are_batched_in_halves(model, monkeypatch, capsys):
    image, text = random_image(64, 64), texts(2)
    options = dense.WindowOptions(long_side=64, window=32, stride=16, batch=BatchSize(8, "windows"))
    expected = dense.small_logits(model, image, text, "clip", options)
    features = dense.dense_features

    def limited(model, pixels, method):
        if len(pixels) > 2:
            raise torch.OutOfMemoryError
        return features(model, pixels, method)

    monkeypatch.setattr(dense, "dense_features", limited)
    assert (dense.small_logits(model, image, text, "clip", options) - expected).abs().max() < 1e-5
    assert "too small for 8 windows at once; continuing with 4." in capsys.readouterr().err
