import numpy as np
import pytest
from PIL import Image

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.class_maps import IGNORED
from geoclick.scenes.copies.semantic import COPIES, SEMANTIC, file_names, paint


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def label(root, name, index):
    return Image.open(root / COPIES[name].folders[1] / file_names(name, index)[1])


def test_there_is_a_copy_of_every_semantic_benchmark():
    assert SEMANTIC.keys() == {name for name, table in BENCHMARKS.items() if table.task == "semantic"}


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        SEMANTIC["uavid"](tmp_path / folder, 3, seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert not set(files(tmp_path / "a").values()) & set(files(tmp_path / "c").values())


def test_names_and_folders_are_the_true_ones(tmp_path):
    for name in ("isaid", "deepglobe", "udd5", "wbs-si"):
        SEMANTIC[name](tmp_path / name, 1, 0)
    assert set(files(tmp_path)) == {
        "isaid/img_dir/val/P0003_0_896_0_896.png",
        "isaid/ann_dir/val/P0003_0_896_0_896_instance_color_RGB.png",
        "deepglobe/DeepGlobe_test_1530/img/100034_sat.jpg",
        "deepglobe/DeepGlobe_test_1530/gt/100034_mask.png",
        "udd5/val/src/000061.JPG",
        "udd5/val/gt/000061.png",
        *(f"wbs-si/{folder}/water_body_{number}.jpg" for folder in ("Images", "Masks") for number in (8, 9)),
        "wbs-si/val.txt",
    }
    assert (tmp_path / "wbs-si/val.txt").read_text() == "water_body_8.jpg\n"


def test_labels_are_of_the_true_kinds(tmp_path):
    for name in ("uavid", "isaid", "potsdam", "wbs-si", "xbd", "openearthmap"):
        SEMANTIC[name](tmp_path / name, 3, 0)
    assert [label(tmp_path / "uavid", "uavid", index).mode for index in range(3)] == ["RGB", "P", "L"]
    assert not np.asarray(label(tmp_path / "uavid", "uavid", 1).convert("RGB")).any()
    assert [label(tmp_path / "isaid", "isaid", index).mode for index in range(3)] == ["RGB", "L", "RGB"]
    assert [label(tmp_path / "potsdam", "potsdam", index).mode for index in range(2)] == ["L", "RGB"]
    assert label(tmp_path / "wbs-si", "wbs-si", 0).format == "JPEG"
    assert np.asarray(label(tmp_path / "xbd", "xbd", 0)).max() > 1
    assert label(tmp_path / "openearthmap", "openearthmap", 1).size == (1024, 900)
    moving = (np.asarray(label(tmp_path / "uavid", "uavid", 0)) == (64, 0, 128)).all(axis=-1)
    assert moving.any()


@pytest.mark.parametrize("name", ["loveda", "isaid", "vaihingen"])
def test_some_pixels_do_not_count(name):
    maps = [paint(name, 0, index)[1] for index in range(2)]
    assert any((classes == IGNORED).any() for classes in maps)


def test_every_third_image_lacks_the_class_to_find():
    assert [bool((paint("spacenet", 0, index)[1] == 0).any()) for index in range(6)] == [
        True,
        True,
        False,
    ] * 2
