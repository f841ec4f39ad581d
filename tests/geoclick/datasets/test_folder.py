import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geoclick import images, masks
from geoclick.datasets import ReadOptions, read
from geoclick.datasets.folder import _parse
from geoclick.errors import GeoClickError, UsageError
from tests.paths import SHARED

CONTRADICTING = "components that contradict others (same image and query, another target), still used"
RED, BLUE, GREY, BLACK = (200, 10, 10), (10, 10, 200), (155, 155, 155), (0, 0, 0)


def color_folder(root, mask, *, palette=False):
    """A root with one image `a.jpg`, its color mask and a classes.json."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    images.write_png(root / "images/a.png", np.full((*mask.shape[:2], 3), 90, np.uint8))
    picture = Image.fromarray(mask)
    (picture.quantize(8) if palette else picture).save(root / "masks/a.png")
    legend = {
        "classes": {"Bare Land": RED, "Water": BLUE, "Unlabeled": GREY},
        "ignore": [list(BLACK), list(GREY)],
    }
    (root / "classes.json").write_text(json.dumps(legend))
    return root


def colored():
    """Two red components, one blue, a corner to ignore."""
    mask = np.empty((20, 30, 3), np.uint8)
    mask[:] = BLUE
    mask[2:6, 3:9] = RED
    mask[6:8, 9:12] = RED  # touches the first one at a corner: 8 neighbors, one component
    mask[12:15, 20:25] = RED
    mask[18:, :4] = BLACK
    mask[:2, 28:] = GREY
    return mask


def list_folder(root, *lines):
    (root / "val/images").mkdir(parents=True)
    images.write_png(root / "val/images/0.png", np.zeros((8, 10, 3), np.uint8))
    (root / "val/samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def line(**changes):
    mask = np.zeros((8, 10), bool)
    mask[2:5, 3:6] = True
    record = {"sample_id": "s", "task": "referring", "query": "the tank", "image": "images/0.png"}
    return record | {"size": [8, 10], "mask": masks.encode_rle(mask), "category": "tank"} | changes


@pytest.mark.parametrize("palette", [False, True])
def test_colors_become_one_sample_for_each_component(tmp_path, palette):
    root, left = color_folder(tmp_path, colored(), palette=palette), []
    options = ReadOptions(min_area=1, max_area_fraction=0.95, components=True)
    samples = list(read("folder", root, "train", options=options, on_left_out=left.append))
    assert [(s.query, s.sample_id) for s in samples] == [
        ("bare land", "a-bare_land-2-3"),
        ("bare land", "a-bare_land-12-20"),
        ("water", "a-water-0-0"),
    ]
    assert [int(s.mask.sum()) for s in samples] == [30, 15, 600 - 45 - 8 - 4]
    assert all(s.task == "semantic" and s.image == "images/a.png" and s.size == (20, 30) for s in samples)
    assert (~samples[0].valid).sum() == 12
    assert [(item.reason, item.count, item.error) for item in left] == [(CONTRADICTING, 2, "")]


@pytest.mark.parametrize("palette", [False, True])
def test_a_sample_is_an_image_and_a_class(tmp_path, palette):
    root, left = color_folder(tmp_path, colored(), palette=palette), []
    legend = json.loads((root / "classes.json").read_text())
    legend["classes"]["Sea ice"] = [1, 2, 3]
    (root / "classes.json").write_text(json.dumps(legend))
    samples = list(read("folder", root, "train", on_left_out=left.append))
    # A class that the image lacks has no target; ignored classes are not asked for.
    assert [(s.query, s.category, s.sample_id, int(s.mask.sum())) for s in samples] == [
        ("bare land", "Bare Land", "a/bare_land", 45),
        ("water", "Water", "a/water", 600 - 45 - 8 - 4),
        ("sea ice", "Sea ice", "a/sea_ice", 0),
    ]
    assert all((~sample.valid).sum() == 12 for sample in samples)
    assert left == []


@pytest.mark.parametrize("place", ["classes.json", "train/classes.json"])
def test_the_legend_of_a_split_lies_in_the_split_or_in_the_root(tmp_path, place):
    folder = color_folder(tmp_path / "train", colored())
    (folder / "classes.json").rename(tmp_path / place)
    assert [sample.query for sample in read("folder", tmp_path, "train")] == ["bare land", "water"]


def test_colors_without_a_legend_are_refused(tmp_path):
    root = color_folder(tmp_path, colored())
    (root / "classes.json").unlink()
    with pytest.raises(GeoClickError, match=r"more than one color besides black.*classes\.json"):
        list(read("folder", root, "train"))


def test_a_mask_without_a_color_of_the_legend_is_refused(tmp_path):
    root = color_folder(tmp_path, np.full((20, 30, 3), 77, np.uint8))
    with pytest.raises(GeoClickError, match=r"has no color of classes\.json"):
        list(read("folder", root, "train"))


def test_an_image_without_scored_pixels_is_left_out_and_counted(tmp_path):
    root, left = color_folder(tmp_path, np.zeros((20, 30, 3), np.uint8)), []
    assert list(read("folder", root, "train", on_left_out=left.append)) == []
    assert [(item.reason, item.count, item.error) for item in left] == [("no pixel that is scored", 2, "")]


def test_area_limits_count_what_they_leave_out(tmp_path):
    root, left = color_folder(tmp_path, colored()), []
    options = ReadOptions(min_area=16, max_area_fraction=0.5, components=True)
    samples = list(read("folder", root, "train", options=options, on_left_out=left.append))
    assert [s.sample_id for s in samples] == ["a-bare_land-2-3"]
    assert [(item.reason, item.count, item.error) for item in left] == [
        ("smaller than min_area", 1, ""),
        ("larger than max_area_fraction", 1, ""),
    ]


def test_every_pixel_counts_where_nothing_is_ignored(tmp_path):
    mask = np.empty((20, 20, 3), np.uint8)
    mask[:] = RED
    mask[:, 10:] = BLUE
    (sample, _) = read("folder", color_folder(tmp_path, mask), "", options=ReadOptions(min_area=1))
    assert sample.valid is None


def test_unknown_colors_are_ignored_and_counted(tmp_path):
    mask = colored()
    mask[10, 10] = (1, 2, 3)
    left = []
    (*_, water) = read(
        "folder", color_folder(tmp_path, mask), "", options=ReadOptions(), on_left_out=left.append
    )
    assert not water.valid[10, 10]
    assert [(item.reason, item.count) for item in left] == [("pixels of unknown colors, ignored", 1)]


def test_binary_masks_without_classes(tmp_path):
    root = color_folder(tmp_path, colored())
    (root / "classes.json").unlink()
    images.write_png(root / "masks/a.png", np.eye(20, 30, dtype=bool))
    (sample,) = read("folder", root, "train", options=ReadOptions(query="the diagonal"))
    assert (sample.query, int(sample.mask.sum())) == ("the diagonal", 20)


@pytest.mark.parametrize("spoil", ["size", "truncated", "missing mask"])
def test_a_broken_pair_is_one_sentence_and_the_others_are_read(tmp_path, spoil):
    root = color_folder(tmp_path, colored())
    picture = (root / "images/a.png").read_bytes()
    (root / "images/b.png").write_bytes(picture)
    if spoil == "size":
        images.write_png(root / "masks/b.png", np.zeros((7, 9, 3), np.uint8))
    elif spoil == "truncated":
        (root / "masks/b.png").write_bytes((root / "masks/a.png").read_bytes()[:60])
    with pytest.raises(GeoClickError) as failure:
        list(read("folder", root, "train"))
    if spoil == "size":
        assert "30x20" in str(failure.value)
        assert "9x7" in str(failure.value)
    left = []
    samples = list(read("folder", root, "train", on_left_out=left.append))
    assert len(samples) == 2
    assert [item.item for item in left if item.error] == ["images/b.png"]


def test_listed_samples(tmp_path):
    mask = np.zeros((8, 10), bool)
    mask[1, 1] = True
    root = list_folder(
        tmp_path,
        line(),
        line(sample_id="f", mask="0_mask.png"),
        line(sample_id="n", task="no_target", mask=None, category=None),
    )
    images.write_png(root / "val/0_mask.png", mask)
    first, from_file, none = read("folder", root, "val")
    assert (first.query, first.category, first.image) == ("the tank", "tank", "val/images/0.png")
    assert first.read_image().shape == (8, 10, 3)
    np.testing.assert_array_equal(from_file.mask, mask)
    assert not none.mask.any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": "../../secret.png"}, "leads out of"),
        ({"image": "/etc/passwd"}, "leads out of"),
        ({"mask": "../../mask.png"}, "leads out of"),
        ({"task": "guess"}, "task must be one of"),
        ({"query": 3}, "query must be a text"),
        ({"size": [8, True]}, "size must be"),
        ({"size": [80, 100]}, "100x80 pixels but its mask is 10x8"),
        ({"mask": None}, "mask must be an RLE or a path"),
        ({"image": "a" * 300 + ".png"}, "no valid file name"),
    ],
)
def test_a_broken_line_is_one_sentence_that_names_it(tmp_path, changes, words):
    root = list_folder(tmp_path, line(sample_id="good"), line(**changes))
    with pytest.raises(GeoClickError, match=r"samples\.jsonl line 2") as failure:
        list(read("folder", root, "val"))
    assert words in str(failure.value)
    left = []
    assert [s.sample_id for s in read("folder", root, "val", on_left_out=left.append)] == ["good"]
    assert len(left) == 1


def test_a_link_out_of_the_root_is_refused(tmp_path):
    outside = tmp_path / "outside.png"
    images.write_png(outside, np.zeros((8, 10, 3), np.uint8))
    root = list_folder(tmp_path / "root", line(image="images/link.png"))
    (root / "val/images/link.png").symlink_to(outside)
    with pytest.raises(GeoClickError, match="leads out of"):
        list(read("folder", root, "val"))


def test_an_image_that_is_no_file_is_left_out_and_counted(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / "val" / part).mkdir(parents=True)
        images.write_png(tmp_path / "val" / part / "a.png", np.full((8, 10), 255, np.uint8))
    folder = tmp_path / "val/images"
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "lost.png").symlink_to(tmp_path / "none")
    (folder / "folder.png").mkdir()
    (folder / "notes").mkdir()
    left = []
    assert [s.sample_id for s in read("folder", tmp_path, "val", on_left_out=left.append)] == ["a"]
    assert sorted(one.item for one in left) == [
        f"val/images/{name}.png" for name in ("folder", "loop", "lost")
    ]
    assert all("is no plain file" in one.error for one in left)


def test_the_same_id_twice_is_refused(tmp_path):
    with pytest.raises(GeoClickError, match="twice"):
        list(read("folder", list_folder(tmp_path, line(), line()), "val"))


def test_an_image_of_another_size_names_both(tmp_path):
    record = line(size=[4, 6], mask=masks.encode_rle(np.ones((4, 6), bool)))
    (sample,) = read("folder", list_folder(tmp_path, record), "val")
    with pytest.raises(GeoClickError, match=r"10x8 pixels but its mask is 6x4"):
        sample.read_image()


@pytest.mark.parametrize("split", ["../..", "/etc"])
def test_a_split_may_not_leave_the_root(tmp_path, split):
    with pytest.raises(GeoClickError, match="leads out of"):
        read("folder", list_folder(tmp_path, line()), split)


def test_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="choose one of folder"):
        read("dota", tmp_path, "val")
    with pytest.raises(UsageError, match="not a folder"):
        read("folder", tmp_path / "none", "val")
    with pytest.raises(UsageError, match=r"neither samples\.jsonl nor"):
        read("folder", tmp_path, "val")


def test_a_wrong_legend_is_one_sentence(tmp_path):
    root = color_folder(tmp_path, colored())
    for content in ("{", "[]", '{"classes": {"a": [1, 2]}}', '{"classes": {"a": [1, 2, 3], "b": [1, 2, 3]}}'):
        (root / "classes.json").write_text(content)
        with pytest.raises(GeoClickError, match=r"classes\.json must hold"):
            list(read("folder", root, "train"))


def test_a_listed_rle_with_run_lengths_is_the_same_target(tmp_path):
    runs = {"size": [8, 10], "counts": [26, 3, 5, 3, 5, 3, 35]}
    first, second = read("folder", list_folder(tmp_path, line(), line(sample_id="u", mask=runs)), "val")
    np.testing.assert_array_equal(first.mask, second.mask)
    assert second.rle == first.rle  # what the click store takes


@pytest.mark.parametrize("key", ["sample_id", "query", "category", "image"])
def test_half_a_character_is_a_broken_sample_and_the_others_are_read(tmp_path, key):
    root, left = list_folder(tmp_path, line(**{key: "x\ud800"}), line(sample_id="good")), []
    assert [s.sample_id for s in read("folder", root, "val", on_left_out=left.append)] == ["good"]
    assert [item.reason for item in left] == ["broken sample" if key == "image" else "broken text"]
    assert "fix" in left[0].error
    (left[0].item + left[0].error).encode()


def test_a_file_name_that_is_not_utf_8_is_left_out_and_the_others_are_read(tmp_path):
    root, left = color_folder(tmp_path, colored()), []
    for folder in ("images", "masks"):
        data = (root / folder / "a.png").read_bytes()
        Path(os.fsdecode(os.fsencode(root / folder) + b"/\xff.png")).write_bytes(data)
    samples = list(read("folder", root, "train", on_left_out=left.append))
    assert {sample.image for sample in samples} == {"images/a.png"}
    assert [item.reason for item in left] == ["broken text", "broken text"]
    (left[0].item + left[0].error).encode()


def test_a_pipe_is_no_file(tmp_path):
    root, left = list_folder(tmp_path, line(image="images/p"), line(mask="m"), line(sample_id="good")), []
    os.mkfifo(root / "val/images/p")
    os.mkfifo(root / "val/m")
    assert [s.sample_id for s in read("folder", root, "val", on_left_out=left.append)] == ["good"]
    assert len(left) == 2
    (root / "val/samples.jsonl").unlink()
    os.mkfifo(root / "val/samples.jsonl")
    with pytest.raises(UsageError, match=r"samples\.jsonl is no file"):
        list(read("folder", root, "val"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(list(line())), JSON), st.text(max_size=30))
def test_no_line_breaks_the_reader_otherwise(tmp_path_factory, changes, noise):
    folder = tmp_path_factory.getbasetemp()
    for text in (noise, json.dumps(line() | changes)):
        try:
            sample, _ = _parse(text, folder, "", folder)
        except (ValueError, GeoClickError):
            continue
        assert sample.size == tuple(sample.rle["size"])


DUBAI = SHARED / "data/dubai"


@pytest.mark.realdata
@pytest.mark.skipif(not DUBAI.is_dir(), reason="the real tiles are not next to the checkout")
def test_real_tiles_read_without_a_failure():
    left = []
    samples = list(
        read("folder", DUBAI, "train", options=ReadOptions(2000, components=True), on_left_out=left.append)
    )
    assert not any(item.error for item in left)
    assert {item.reason for item in left} == {
        "smaller than min_area",
        "larger than max_area_fraction",
        CONTRADICTING,
    }
    # RGB and palette masks alike: every one of the 54 tiles has something to click on.
    assert len({sample.image for sample in samples}) == 54
    assert {s.query for s in samples} == {"building", "land (unpaved area)", "road", "vegetation", "water"}
    for sample in samples[::200]:
        assert 2000 <= sample.mask.sum() <= 0.5 * sample.mask.size
        assert sample.valid is None or sample.valid[sample.mask].all()
