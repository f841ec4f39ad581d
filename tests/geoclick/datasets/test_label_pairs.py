import pytest

from geoclick.datasets import label_pairs
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.errors import GeoClickError, UsageError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def found(name, root, split=None, on_left_out=None):
    """The stems that a reader would read, with their labels."""
    benchmark = BENCHMARKS[name]
    split = split or benchmark.split
    layout, every = label_pairs.find(benchmark, root, split)
    left = []
    chosen = label_pairs.select(
        every, label_pairs.listed(benchmark, layout, root, split), on_left_out or left.append
    )
    return {pair.stem: pair.label for pair in chosen}, [item.item for item in left]


def test_suffixes_part_stems_from_names(tmp_path):
    isaid = touch(tmp_path / "isaid", "img_dir/val/P1_0.png", "ann_dir/val/P1_0_instance_color_RGB.png")
    assert found("isaid", isaid)[0] == {"P1_0": "ann_dir/val/P1_0_instance_color_RGB.png"}
    drone = ("b.JPG", "a.jpg", "._a.jpg", "Thumbs.db")
    udd5 = touch(tmp_path / "udd5", *(f"val/src/{name}" for name in drone), "val/gt/a.png")
    assert list(found("udd5", udd5)[0]) == ["a", "b"]
    roads = touch(tmp_path / "chn6", "val/images/am1_sat.jpg", "val/gt/am1_mask.png")
    assert found("chn6-cug", roads)[0] == {"am1": "val/gt/am1_mask.png"}


@pytest.mark.parametrize(
    ("name", "image", "label"),
    [
        ("deepglobe", "DeepGlobe_test_1530/img/7_sat.jpg", "DeepGlobe_test_1530/gt/7_mask.png"),
        ("deepglobe", "image_cvt/7.jpg", "label_cvt/7.png"),
        ("massachusetts", "Massachusetts_test_49/img/7.jpg", "Massachusetts_test_49/gt/7.png"),
        ("spacenet", "img/7.jpg", "label_cvt/7.png"),
        ("inria", "img_dir/split_test/7.png", "ann_dir/split_test/7.png"),
        ("whu-sat2", "1. cropped data/test/image/7.tif", "1. cropped data/test/label/7.tif"),
        ("whu-sat2", "test/image/7.tif", "test/label_cvt/7.tif"),
        ("whu-aerial", "val/image/7.tif", "val/label/7.tif"),
    ],
)
def test_converted_and_downloaded_folders_are_known(tmp_path, name, image, label):
    assert found(name, touch(tmp_path, image, label))[0] == {"7": label}


def test_a_list_limits_the_split_and_missing_images_are_reported(tmp_path):
    names = [f"img_dir/val/{stem}.tif" for stem in ("aachen_1", "aachen_2", "santa-rosa_1")]
    root = touch(tmp_path, *names, "ann_dir/val/aachen_1.tif")
    assert list(found("openearthmap", root)[0]) == ["aachen_1", "aachen_2", "santa-rosa_1"]
    (root / "val.txt").write_text("aachen_2.tif\n\nimages/aachen_1.tif\nbonn_3\n")
    assert [list(stems) for stems in found("openearthmap", root)] == [["aachen_1", "aachen_2"], ["bonn_3"]]


def test_openearthmap_as_downloaded_needs_its_list(tmp_path):
    stems = ("bonn/{}/bonn_1", "aachen/{}/aachen_1")
    root = touch(tmp_path, *(f"{stem.format(kind)}.tif" for stem in stems for kind in ("images", "labels")))
    with pytest.raises(UsageError, match=r"val\.txt is missing"):
        found("openearthmap", root)
    (root / "val.txt").write_text("bonn_1.tif\n")
    assert found("openearthmap", root)[0] == {"bonn_1": "bonn/labels/bonn_1.tif"}
    with pytest.raises(UsageError, match=r"train\.txt is missing"):
        found("openearthmap", root, "train")


def test_wbs_si_is_scored_on_the_published_list_unless_it_has_one(tmp_path):
    names = BENCHMARKS["wbs-si"].scored_stems
    root = touch(
        tmp_path, *(f"Images/{name}.jpg" for name in (*names[:3], "water_body_1")), "Masks/water_body_8.jpg"
    )
    stems, missing = found("wbs-si", root)
    assert set(stems) == set(names[:3])
    assert missing == sorted(names[3:])
    (root / "train.txt").write_text("water_body_1.jpg\n")
    assert list(found("wbs-si", root, "train")[0]) == ["water_body_1"]


def test_a_split_that_no_folder_names_is_refused(tmp_path):
    root = touch(tmp_path, "img/7.jpg", "gt/7.png")
    with pytest.raises(UsageError, match="has the split test, not val"):
        found("spacenet", root, "val")


def test_a_stem_of_two_images_is_reported(tmp_path):
    root = touch(tmp_path, "val/src/a.JPG", "val/src/a.jpg", "val/gt/a.png")
    if len(list((root / "val/src").iterdir())) == 1:
        pytest.skip("this file system does not tell upper from lower case")
    assert [len(part) for part in found("udd5", root)] == [1, 1]


def test_a_split_may_not_leave_the_root(tmp_path):
    with pytest.raises(GeoClickError, match="leads out of"):
        label_pairs.find(BENCHMARKS["loveda"], tmp_path, "../../..")
