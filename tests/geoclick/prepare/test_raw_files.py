import pytest

from geoclick.errors import GeoClickError, UsageError
from geoclick.prepare import JOBS
from geoclick.prepare.raw_files import find


@pytest.fixture
def touch(tmp_path):
    def touched(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return touched


def potsdam(*tiles):
    return [
        name
        for tile in tiles
        for name in (f"a/top_potsdam_{tile}_RGB.tif", f"b/top_potsdam_{tile}_label_noBoundary.tif")
    ]


def test_a_split_is_its_list(touch):
    root = touch(*potsdam(*JOBS["potsdam"].splits["val"].names, "2_10", "9_9"))
    found = find(JOBS["potsdam"], root, "val")
    assert [source.name for source in found] == sorted(JOBS["potsdam"].splits["val"].names)
    assert {source.image.parent.name for source in found} == {"a"}
    assert {source.label.parent.name for source in found} == {"b"}


def test_missing_files_are_named_in_one_sentence(touch):
    root = touch(*potsdam("2_13", "2_14")[:-1], *potsdam("3_13")[1:])
    with pytest.raises(GeoClickError) as caught:
        find(JOBS["potsdam"], root, "val")
    text = str(caught.value)
    assert "13 raw files of Potsdam's val are missing: 3_14 (top_potsdam_{tile}_RGB.tif), " in text
    assert "..., ..." not in text
    assert text.count(". ") == 0
    with pytest.raises(
        GeoClickError, match=r"2 raw files .*: 3_13 \(.*_RGB.tif\), 2_14 \(.*_label_noBoundary.tif\);"
    ):
        find(JOBS["potsdam"], root, "val", ("2_13", "2_14", "3_13"))
    assert [source.name for source in find(JOBS["potsdam"], root, "val", ("2_13",))] == ["2_13"]


def test_images_that_a_split_lacks_are_refused(touch):
    root = touch(*potsdam("2_10"))
    with pytest.raises(UsageError, match="2_10 is not in the split val of Potsdam; --only takes 2_13"):
        find(JOBS["potsdam"], root, "val", ("2_10",))
    assert find(JOBS["potsdam"], root, "train", ("2_10",))


def test_sequences_and_disasters_are_selected_by_the_first_part_of_a_name(touch):
    root = touch(
        *(
            f"test_gt/seq2{n}/{kind}/000{f}00.png"
            for n in (1, 2)
            for f in (0, 1)
            for kind in ("Images", "Labels")
        ),
        *(
            f"test/{kind}_pre_disaster{end}"
            for kind, end in (("images/a-b_0", ".png"), ("labels/a-b_0", ".json"))
        ),
        *("test/images/c_0_pre_disaster.png", "test/targets/c_0_pre_disaster_target.png"),
    )
    names = [source.name for source in find(JOBS["uavid"], root, "test", ("seq22",))]
    assert names == ["seq22_000000", "seq22_000100"]
    assert [s.name for s in find(JOBS["uavid"], root, "test", ("seq21_000100",))] == ["seq21_000100"]
    assert [s.name for s in find(JOBS["xbd"], root, "test", ("a-b",))] == ["a-b_0"]
    with pytest.raises(UsageError, match="seq1 is not in the split test of UAVid"):
        find(JOBS["uavid"], root, "test", ("seq1",))


def test_a_target_is_taken_before_polygons(touch):
    root = touch(
        "test/images/a_0_pre_disaster.png",
        "test/targets/a_0_pre_disaster_target.png",
        "test/labels/a_0_pre_disaster.json",
    )
    (source,) = find(JOBS["xbd"], root, "test")
    assert source.label.name == "a_0_pre_disaster_target.png"


def test_a_name_that_is_there_twice_is_refused(touch):
    root = touch(
        *(f"Val/{area}/{kind}_png/7.png" for area in ("Rural", "Urban") for kind in ("images", "masks"))
    )
    with pytest.raises(
        GeoClickError, match=r"7 of LoveDA exists twice, as Val/Rural/.* and as Val/Urban/.*; remove one"
    ):
        find(JOBS["loveda"], root, "val")


def test_masks_of_isaid_lie_beside_the_images_or_in_a_folder_of_their_own(touch):
    label = "P0003_instance_color_RGB.png"
    for folder in ("images", "Semantic_masks/images"):
        root = touch(f"{folder[:1]}/val/images/P0003.png", f"{folder[:1]}/val/{folder}/{label}")
        assert len(find(JOBS["isaid"], root / folder[:1], "val")) == 1


def test_an_empty_or_missing_root_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="nowhere is no folder"):
        find(JOBS["isaid"], tmp_path / "nowhere", "val")
    with pytest.raises(
        GeoClickError, match=r"holds no raw files of iSAID's val \(such as {split}/\*\*/{image}.png\)"
    ):
        find(JOBS["isaid"], tmp_path, "val")


def test_a_link_out_of_the_root_is_refused(touch, tmp_path_factory):
    root = touch(*potsdam("2_13"))
    outside = tmp_path_factory.mktemp("outside") / "x.tif"
    outside.touch()
    (root / "a" / "top_potsdam_2_13_RGB.tif").unlink()
    (root / "a" / "top_potsdam_2_13_RGB.tif").symlink_to(outside)
    with pytest.raises(GeoClickError, match="leads out of"):
        find(JOBS["potsdam"], root, "val", ("2_13",))
