from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoclick import masks
from geoclick.errors import GeoClickError
from geoclick.inference.evaluation import options, predictors
from geoclick.segmenters.base import Prompt
from geoclick.segmenters.center_rule import next_click
from tests.inference.evaluation.test_run_folder import samples


def test_every_value_of_predictor_has_a_loader():
    assert list(predictors.LOADERS) == list(options.PREDICTORS)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_the_deepest_pixel_is_the_first_click_of_the_synthesis(seed, share):
    mask = np.random.default_rng(seed).random((12, 17)) < share
    clicks = predictors.center_click(mask)
    click = next_click(mask, np.zeros_like(mask), ())
    assert clicks == (() if click is None else (click,))


def with_masks(shape=(40, 50), count=6):
    rng = np.random.default_rng(0)
    for i, sample in enumerate(samples(count)):
        mask = np.zeros(shape, bool)
        if i:
            top, left = rng.integers(0, 20, 2)
            mask[top : top + 3 * i, left : left + 2 * i] = True
        yield replace(sample, size=shape, rle=masks.encode_rle(mask))


def test_the_box_encloses_the_true_mask(segmenter):
    batch = list(with_masks())
    images = [np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8) for i in range(6)]
    predictions = predictors.Box(segmenter, "replay").predict(batch, images)
    assert not predictions[0].mask.any()
    assert predictions[0].mask.shape == (40, 50)
    for sample, image, prediction in list(zip(batch, images, predictions, strict=True))[1:]:
        rows, columns = np.nonzero(sample.mask)
        box = columns.min(), rows.min(), columns.max(), rows.max()
        embedding = segmenter.embed([image])
        alone = segmenter.decode(embedding, [Prompt((), box=box)], multimask=False)[0]
        expected = segmenter.masks(alone.low_res, embedding[0])[0].numpy()
        assert (prediction.mask == expected).mean() > 0.999


def test_the_oracle_refuses_clicks_of_another_image(segmenter):
    (sample,) = with_masks(count=1)
    clicks = {sample.sample_id: predictors.StoredClicks("other.png", ())}
    oracle = predictors.Oracle(segmenter, "replay", "clicks", clicks)
    with pytest.raises(GeoClickError, match="give --clicks the store of this dataset"):
        oracle.predict([sample], [np.zeros((40, 50, 3), np.uint8)])


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.3, 1.0])
def test_the_scores_of_the_noisy_predictor_are_known(noise):
    batch = list(with_masks((200, 300)))
    noisy = predictors.Noisy(noise, seed=0)
    predictions = noisy.predict(batch, [])
    again = noisy.predict(batch[::-1], [])[::-1]
    intersection = union = of_targets = rest = 0
    for sample, prediction, other in zip(batch, predictions, again, strict=True):
        np.testing.assert_array_equal(prediction.mask, other.mask)
        wrong = prediction.mask ^ sample.mask
        assert abs(wrong.mean() - noise) < 0.01
        intersection += (prediction.mask & sample.mask).sum()
        union += (prediction.mask | sample.mask).sum()
        of_targets, rest = of_targets + sample.mask.sum(), rest + (~sample.mask).sum()
    expected = (1 - noise) * of_targets / (of_targets + noise * rest)
    assert intersection / union == pytest.approx(expected, rel=0.05, abs=1e-12)
    patterns = [prediction.mask ^ sample.mask for sample, prediction in zip(batch, predictions, strict=True)]
    assert noise in (0.0, 1.0) or (patterns[0] != patterns[1]).any()
