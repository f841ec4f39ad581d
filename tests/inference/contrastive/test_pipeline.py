from dataclasses import replace

import numpy as np
import pytest
import torch

from geoclick import options
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.class_maps import IGNORED
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.contrastive import classes, dense, region_crops, selection, vision_transformer
from geoclick.inference.contrastive.pipeline import load
from geoclick.inference.contrastive.proposals import propose
from geoclick.inference.contrastive.settings import ContrastiveSettings
from geoclick.scenes.copies.semantic import paint

BENCHMARK = BENCHMARKS["loveda"]
LAND_COVER = "; ".join(", ".join(names) for names in BENCHMARK.prompts)


@pytest.fixture(scope="module")
def scene():
    """An image of the copy of LoveDA at half its size, with its true classes."""
    image, truth = paint("loveda", 0, 1)
    return np.ascontiguousarray(np.asarray(image)[::2, ::2]), np.asarray(truth)[::2, ::2]


@pytest.fixture(scope="module")
def loaded():
    return load(LAND_COVER, settings=ContrastiveSettings(points_per_side=10))


def mean_iou(predicted, truth):
    valid = truth != IGNORED
    scores = []
    for number in np.unique(truth[valid]):
        one, other = (predicted == number) & valid, (truth == number) & valid
        scores.append((one & other).sum() / (one | other).sum())
    return np.mean(scores)


def test_the_options_name_the_methods():
    assert set(vision_transformer.VARIANTS) == set(options.DENSE_METHODS)
    assert set(region_crops.SELECTIONS) < set(options.SELECTIONS)
    assert set(region_crops.SELECTIONS.values()) == set(region_crops.BACKGROUNDS)


def test_proposals_beat_plain_clip_and_stay_below_the_oracle(loaded, scene):
    image, truth = scene
    prediction = loaded.predict(image)
    assert prediction.labels.shape == prediction.confidence.shape == truth.shape
    assert prediction.labels.dtype == np.int32
    assert prediction.coverage > 0.2
    plain = load(LAND_COVER, "clip").predict(image)
    assert (plain.coverage, plain.proposals) == (None, None)
    proposals = propose(loaded.segmenter, image, points_per_side=10, predicted_iou=0.2, stability=0.8)
    assert prediction.proposals == len(proposals)
    assert prediction.coverage == selection.coverage(proposals, truth.shape)
    rules = replace(selection.ORACLE_RULES, uncovered="dense")
    oracle = selection.oracle_proposals(
        truth, proposals, len(BENCHMARK.names), rules, ignored=IGNORED, labels=prediction.labels
    )
    scores = [mean_iou(labels, truth) for labels in (plain.labels, prediction.labels, oracle)]
    assert scores[0] + 0.1 < scores[1] < scores[2]


def test_the_vote_of_the_dense_labels_and_their_probabilities(loaded, scene):
    image = scene[0][:200, :240]
    prediction = loaded.predict(image)
    logits = dense.window_logits(loaded.clip.model, image, loaded.text, "clearclip")
    proposals = propose(loaded.segmenter, image, points_per_side=10, predicted_iou=0.2, stability=0.8)
    expected = selection.vote(dense.labels(logits, loaded.classes), proposals, loaded.classes)
    assert np.array_equal(prediction.labels, expected)
    probabilities = dense.class_probabilities(logits, loaded.classes).numpy()
    assert np.allclose(prediction.confidence, np.choose(expected, probabilities), atol=1e-5)


@pytest.mark.parametrize("select", options.SELECTIONS[1:])
def test_other_selections(loaded, scene, select):
    image = scene[0][:200, :250]
    other = replace(loaded, settings=replace(loaded.settings, select=select))
    labels = other.predict(image).labels
    assert labels.shape == image.shape[:2]
    assert other.describe()["select"] == select
    assert mean_iou(labels, scene[1][:200, :250]) > 0.3


def test_crops_are_compared_with_the_names_one_by_one(loaded, scene):
    image = scene[0][:200, :250]
    regions, labels = loaded.regions(image), loaded.dense_map(image).labels()
    proposals = regions.proposals
    assert len(proposals) > 5
    order = sorted(
        range(len(proposals)), key=lambda n: (-proposals[n].mask.sum(), proposals[n].predicted_iou)
    )
    shift, spread = np.array(loaded.clip.mean), np.array(loaded.clip.std)
    for name, background in region_crops.SELECTIONS.items():
        expected = labels.copy()
        for number in order:
            crop = region_crops.crop(loaded.clip, image, proposals[number], background=background, margin=1.0)
            pixels = torch.from_numpy((crop / 255 - shift) / spread).permute(2, 0, 1)[None].float()
            feature = loaded.clip.model.get_image_features(pixel_values=pixels).pooler_output[0]
            best = int((loaded.text @ feature).argmax())
            expected[proposals[number].mask] = loaded.classes.query_classes[best]
        other = replace(loaded, settings=replace(loaded.settings, select=name))
        assert (other.select(image, labels, regions, None) == expected).mean() > 0.999


def test_one_class_is_the_union_of_the_proposals_with_most_of_their_pixels_in_it(loaded, scene):
    image, truth = scene
    one = load("water, pond", settings=ContrastiveSettings(points_per_side=10))
    assert one.classes.names == ("background", "water")
    prediction = one.predict(image)
    assert one.describe()["select"] == "share"
    assert set(np.unique(prediction.labels)) == {0, 1}
    water = truth == BENCHMARK.names.index("water")
    assert ((prediction.labels == 1) & water).sum() / ((prediction.labels == 1) | water).sum() > 0.7
    listed_last = load("water, pond; background", settings=ContrastiveSettings(points_per_side=10))
    assert np.array_equal(listed_last.predict(image).labels == 0, prediction.labels == 1)


def test_large_images_are_cut_for_both_models(loaded, scene):
    image = scene[0][:300, :400]
    small = replace(loaded, settings=replace(loaded.settings, tile=200, overlap=40, points_per_side=5))
    prediction = small.predict(image)
    assert prediction.labels.shape == (300, 400)
    assert mean_iou(prediction.labels, scene[1][:300, :400]) > 0.3
    pooled = replace(small, settings=replace(small.settings, select="pool"))
    with pytest.raises(GeoClickError, match="at most 200 pixels a side, not 400x300; use vote"):
        pooled.predict(image)


def test_the_record_has_the_defaults_and_hashes(loaded):
    record = loaded.describe()
    assert (record["features"], record["class_bias"], record["stability"]) == ("clearclip", 0.0, 0.8)
    assert record["segmenter_sha256"] == loaded.segmenter.sha256


def test_wrong_methods_and_classes_are_one_sentence(loaded):
    with pytest.raises(UsageError, match="Unknown method 'sam3'"):
        load("building", "sam3")
    with pytest.raises(UsageError, match="'gem' has its own features; use 'clip' with contrastive"):
        load("building", "gem", settings=ContrastiveSettings(features="clip"))
    with pytest.raises(UsageError, match="select goes with the method contrastive, not 'clip'"):
        load("building", "clip", settings=ContrastiveSettings(select="pool"))
    with pytest.raises(UsageError, match="no class besides the background"):
        load("background")
    with pytest.raises(GeoClickError, match="smaller than a patch of 16x16"):
        loaded.predict(np.zeros((8, 40, 3), np.uint8))
    with pytest.raises(GeoClickError, match="must be uint8"):
        loaded.predict(np.zeros((40, 40, 3)))


def test_the_background_of_one_class():
    listed = classes.with_background(classes.parse("building: black"))
    assert listed.names == ("background", "building")
    assert listed.colors[1] == (0, 0, 0) != listed.colors[0]
    two = classes.parse("building; road")
    assert classes.with_background(two) is two


@pytest.mark.gpu
def test_a_gpu_gives_the_map_of_the_cpu(scene):
    settings = ContrastiveSettings(points_per_side=10, tile=300, overlap=60)
    for select in options.SELECTIONS[:2]:
        maps = [
            load(LAND_COVER, device=device, settings=replace(settings, select=select)).predict(scene[0])
            for device in ("cpu", "cuda")
        ]
        assert (maps[0].labels == maps[1].labels).mean() > 0.99
        assert np.abs(maps[0].confidence - maps[1].confidence).mean() < 0.01
