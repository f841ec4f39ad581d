"""Windows of plain images: their pixels, targets and questions."""

import json
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoclick import images, masks
from geoclick.datasets import ReadOptions, read
from geoclick.errors import UsageError
from tests.geoclick.datasets.test_folder import BLACK, BLUE, RED, color_folder, line, list_folder

HEIGHT, WIDTH = 40, 70


def colored():
    """Water in the left half; two components of land, one of them over the border of two windows."""
    mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask[:] = BLUE
    mask[:, 35:] = BLACK
    mask[4:8, 4:8] = RED
    mask[10:14, 28:36] = RED
    return mask


@pytest.fixture
def root(tmp_path):
    root = color_folder(tmp_path, colored())
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    images.write_png(root / "images/a.png", pixels)
    return root


def taken(root, **options):
    left = []
    samples = read("folder", root, "train", options=ReadOptions(**options), on_left_out=left.append)
    return list(samples), left


def place(sample):
    """The row and the column of a window."""
    row, column = sample.sample_id.rpartition("-r")[2].split("c")
    return int(row), int(column)


def test_every_class_is_asked_of_every_window_that_has_scored_pixels(root):
    whole = {s.category: s for s in taken(root)[0]}
    samples, left = taken(root, tile=30, overlap=10)
    image = whole["Water"].read_image()
    assert [(item.item, item.reason) for item in left] == [
        (f"a/{name}-r{row}c40", "no pixel that is scored")
        for row in (0, 10)
        for name in ("bare_land", "water")
    ]
    assert len(samples) == 2 * 2 * 2
    for sample in samples:
        row, column = place(sample)
        rows, columns = slice(row, row + 30), slice(column, column + 30)
        assert sample.size == (30, 30)
        np.testing.assert_array_equal(sample.read_image(), image[rows, columns])
        np.testing.assert_array_equal(sample.mask, whole[sample.category].mask[rows, columns])
        valid = np.ones((30, 30), bool) if sample.valid is None else sample.valid
        np.testing.assert_array_equal(valid, whole[sample.category].valid[rows, columns])
    assert len({(s.image, s.query) for s in samples}) == len({s.sample_id for s in samples}) == len(samples)
    assert not next(s for s in samples if s.sample_id == "a/bare_land-r10c0").mask[5:].any()


@given(tile=st.integers(8, 75), data=st.data())
@settings(max_examples=15, deadline=None)
def test_the_windows_together_are_the_masks_of_the_image(tmp_path_factory, tile, data):
    root = color_folder(tmp_path_factory.mktemp("root"), colored())
    samples, _ = taken(root, tile=tile, overlap=data.draw(st.integers(0, tile - 1)))
    together = defaultdict(lambda: np.zeros((HEIGHT, WIDTH), bool))
    for sample in samples:
        row, column = place(sample) if "-r" in sample.sample_id else (0, 0)
        height, width = sample.size
        assert max(height, width) <= max(tile, 1)
        together[sample.category][row : row + height, column : column + width] |= sample.mask
    for sample in taken(root)[0]:
        np.testing.assert_array_equal(together[sample.category], sample.mask)


def test_images_that_fit_are_not_cut(root):
    assert taken(root, tile=WIDTH, overlap=0) == taken(root)
    assert not (root / "train").exists()


def test_components_are_in_one_window_and_cut_ones_are_counted(root):
    samples, left = taken(root, tile=30, overlap=0, components=True, min_area=10)
    land = {s.sample_id: int(s.mask.sum()) for s in samples if s.category == "Bare Land"}
    # One is two pixels wide in the first window: 4 x 2 < 10.
    assert land == {"a-bare_land-4-4-r0c0": 16, "a-bare_land-10-28-r0c30": 24}
    reasons = {(item.reason, item.count) for item in left if "bare_land" in item.item}
    assert reasons == {("piece smaller than min_area", 1), ("pixels cut off by a tile's border", 8)}


def test_a_question_of_several_targets_has_no_target_only_where_none_is_visible(tmp_path):
    def target(left):
        mask = np.zeros((8, 10), bool)
        mask[2:4, left : left + 2] = True
        return masks.encode_rle(mask)

    lines = [line(sample_id=str(n), task="semantic", mask=target(n)) for n in (0, 2)]
    root = list_folder(tmp_path, *lines)
    samples = list(read("folder", root, "val", options=ReadOptions(tile=5, overlap=0)))
    areas = {s.sample_id: int(s.mask.sum()) for s in samples}
    assert areas == {"0-r0c0": 4, "2-r0c0": 4, "0-r0c5": 0, "0-r3c0": 2, "2-r3c0": 2, "0-r3c5": 0}


def test_sentences_are_about_complete_images(tmp_path):
    root = list_folder(tmp_path, line())
    with pytest.raises(UsageError, match="leave out --tile"):
        list(read("folder", root, "val", options=ReadOptions(tile=5, overlap=0)))
    assert len(list(read("folder", root, "val", options=ReadOptions(tile=10, overlap=0)))) == 1


def test_windows_are_reused_until_the_image_changes(root):
    first = [s.image for s in taken(root, tile=30, overlap=0)[0]]
    times = {p: p.stat().st_mtime_ns for p in root.rglob("*.png")}
    assert [s.image for s in taken(root, tile=30, overlap=0)[0]] == first
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*.png")} == times
    images.write_png(root / "images/a.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    assert not set(first) & {s.image for s in taken(root, tile=30, overlap=0)[0]}


def test_bands_are_those_of_the_image(root):
    samples, _ = taken(root, tile=30, overlap=0, bands=(3,))
    band = taken(root)[0][0].read_image()[..., 2]
    for sample in samples:
        row, column = place(sample)
        shown = sample.read_image()
        np.testing.assert_array_equal(shown[..., 0], band[row : row + 30, column : column + 30])
        np.testing.assert_array_equal(shown[..., 0], shown[..., 1])


def test_a_broken_image_is_a_failure_and_the_others_are_cut(root):
    for folder in ("images", "masks"):
        (root / folder / "b.png").write_bytes((root / folder / "a.png").read_bytes())
    (root / "images/a.png").write_bytes((root / "images/a.png").read_bytes()[:900])
    samples, left = taken(root, tile=30, overlap=0)
    assert {s.sample_id.partition("/")[0] for s in samples} == {"b"}
    assert [(item.item, item.count) for item in left if item.error] == [("images/a.png", 2)]


def test_coco_is_cut_too(tmp_path):
    from tests.geoclick.datasets.test_coco import annotation, make

    root = make(tmp_path, annotation(1))
    (sample,) = read("coco", root, "val", options=ReadOptions(tile=16, overlap=2))
    assert sample.mask.sum() == 24
    samples = list(read("coco", root, "val", options=ReadOptions(tile=16, overlap=2, by_class=True)))
    assert [int(s.mask.sum()) for s in samples] == [24, 0, 12, 0]
    assert {s.size for s in samples} == {(16, 16)}
    assert json.dumps([s.image for s in samples]).count("/.tiles/a-") == len(samples)


@pytest.mark.parametrize("options", [{"tile": 0}, {"tile": 20, "overlap": 20}, {"tile": 20, "overlap": -1}])
def test_options_out_of_range(root, options):
    with pytest.raises(UsageError, match="overlap of tiles"):
        taken(root, **options)
