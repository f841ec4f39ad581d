import numpy as np
import pytest
from PIL import Image
from trl.trainer.utils import RepeatSampler

from geoclick import datasets
from geoclick.train.augmentation.image_views import ImageView
from geoclick.train.reinforcement import epoch_samples
from geoclick.train.reinforcement.epoch_samples import EpochSamples, GroupedKeys, picture_of
from tests.train.samples import listed

KINDS = ("flip", "rotate", "crop")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    queries = ["the barn", "the left barn", "what hides on top of it", "a pond", "the road"]
    return list(datasets.read("folder", listed(tmp_path_factory.mktemp("data"), queries), "train"))


def grouped(count=7, **changes):
    given = {"completions": 2, "batch": 3, "repeats": 4, "shuffle": True, "seed": 5}
    return GroupedKeys(count, **given | changes)


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_order_is_that_of_trl_in_every_epoch(shuffle):
    theirs = RepeatSampler(range(7), 2, 3, 4, shuffle=shuffle, seed=5)
    ours = grouped(shuffle=shuffle)
    orders = []
    for epoch in range(3):
        ours.set_epoch(epoch)
        keys = ours.keys()
        orders.append([key % 7 for key in keys])
        assert orders[-1] == list(theirs)
        assert {key // 7 for key in keys} == {epoch}
        assert len(ours) == len(orders[-1]) == len(theirs)
    assert (orders[0] != orders[1]) == shuffle


def test_an_epoch_does_not_depend_on_those_before():
    one, two = grouped(), grouped()
    one.keys()
    for keys in (one, two):
        keys.set_epoch(2)
    assert one.keys() == two.keys()


def test_given_samples_come_in_their_order():
    keys = grouped()
    keys.given = [6, 6, 1, 0]
    assert keys.keys() == [6, 6, 6, 6, 1, 1] * 4
    assert len(keys) == 24
    assert keys[6]["sample"] == 6


def test_samples_without_augmentation_are_those_of_the_dataset(samples):
    plain = EpochSamples(samples)
    assert [plain[key] for key in range(10)] == samples * 2
    assert list(plain) == samples
    assert picture_of(plain[0]) == str(samples[0].root / samples[0].image)


def test_image_target_and_query_of_a_view_agree(samples):
    """The target is drawn into the image: in each view it is where the mask says."""
    augmented = EpochSamples(samples, KINDS, seed=3)
    changed = 0
    for key in range(8 * len(samples)):
        sample, original = augmented[key], samples[key % len(samples)]
        assert sample.read_image().shape[:2] == sample.mask.shape == sample.size
        assert sample.mask.any() == original.mask.any()
        if picture_of(sample) == picture_of(original):
            assert sample is original
            continue
        changed += 1
        view = sample.view
        assert (view.mask(original.mask) == sample.mask).all()
        assert (view.pixels(original.read_image()) == sample.read_image()).all()
        if "left" in original.query:
            moved = {(-1, 0): "left", (1, 0): "right", (0, -1): "top", (0, 1): "bottom"}
            assert moved[view.direction((-1, 0))] in sample.query
        assert "top of it" not in original.query or view == ImageView(None)
    assert changed > 10


def test_views_differ_from_epoch_to_epoch_and_follow_from_the_seed(samples):
    one, two, other = (EpochSamples(samples, KINDS, seed=seed) for seed in (3, 3, 4))
    keys = range(6 * len(samples))
    pictures = [[picture_of(source[key]) for key in keys] for source in (one, two, other)]
    assert pictures[0] == pictures[1] != pictures[2]
    assert len({pictures[0][epoch * len(samples)] for epoch in range(6)}) > 1


def test_pixels_that_are_not_scored_move_with_the_image(samples):
    valid = np.zeros(samples[0].size, bool)
    valid[:20] = True
    rle = epoch_samples.masks.encode_rle(valid)
    sample = epoch_samples.dataclasses.replace(samples[0], valid_rle=rle)
    view = ImageView(None, False, 1)
    moved = epoch_samples.viewed(sample, view, "query")
    assert (moved.valid == view.mask(valid)).all()
    assert (moved.query, moved.sample_id) == ("query", sample.sample_id)


def test_the_sheet_shows_samples_and_epochs(samples, tmp_path):
    EpochSamples(samples, KINDS).write_sheet(tmp_path / "sheet.png")
    picture = np.asarray(Image.open(tmp_path / "sheet.png"))
    columns, lines = 1 + epoch_samples.EPOCHS, len(samples)
    cell = epoch_samples.sheet.CELL
    assert picture.shape[0] > lines * cell
    assert picture.shape[1] > columns * cell
