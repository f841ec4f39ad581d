import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick import images, masks
from geoclick.datasets import ReadOptions, coco, read
from geoclick.errors import GeoClickError, UsageError

SIZE = (20, 30)
CATEGORIES = [{"id": 1, "name": "Storage Tank"}, {"id": 7, "name": "ship"}]
BOX = [[3, 2, 9, 2, 9, 6, 3, 6]]


def box_mask(x0=3, y0=2, x1=9, y1=6):
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def uncompressed(mask):
    """COCO's run lengths by their definition: column by column, zeros first."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def annotation(number=1, **changes):
    return {"id": number, "image_id": 5, "category_id": 1, "segmentation": BOX, "iscrowd": 0} | changes


def make(root, *annotations, layout="annotations/instances_val.json", folder="val", **changes):
    """A root with one image and these annotations."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    images.write_png(root / folder / "a.png", np.zeros((*SIZE, 3), np.uint8))
    content = {
        "images": [{"id": 5, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": list(annotations),
        "categories": CATEGORIES,
    }
    (root / layout).parent.mkdir(parents=True, exist_ok=True)
    (root / layout).write_text(json.dumps(content | changes))
    return root


def taken(root, options=None):
    left = []
    return list(read("coco", root, "val", options=options, on_left_out=left.append)), left


@pytest.mark.parametrize(
    ("layout", "folder"),
    [
        ("annotations/instances_val.json", "val"),
        ("annotations/instances_val.json", "images/val"),
        ("val.json", "images"),
        ("val.json", "."),
        ("val/_annotations.coco.json", "val"),
    ],
)
def test_layouts(tmp_path, layout, folder):
    (sample,) = read("coco", make(tmp_path, annotation(12), layout=layout, folder=folder), "val")
    assert (sample.sample_id, sample.dataset, sample.split, sample.task) == ("12", "coco", "val", "semantic")
    assert (sample.query, sample.category) == ("storage tank", "Storage Tank")
    assert sample.image == (Path(folder) / "a.png").as_posix()
    assert sample.read_image().shape == (*SIZE, 3)
    np.testing.assert_array_equal(sample.mask, box_mask())
    assert sample.valid is None


@pytest.mark.parametrize(
    "segmentation",
    [BOX, [[3, 2, 9, 2, 9, 4, 3, 4], [3, 4, 9, 4, 9, 6, 3, 6]], uncompressed(box_mask()), None],
    ids=["polygon", "two polygons", "run lengths", "compressed"],
)
def test_every_form_of_a_segmentation_is_the_same_mask(tmp_path, segmentation):
    segmentation = segmentation or masks.encode_rle(box_mask())
    (sample,) = read("coco", make(tmp_path, annotation(segmentation=segmentation)), "val")
    np.testing.assert_array_equal(sample.mask, box_mask())
    # The click store takes compressed counts only.
    assert isinstance(sample.rle["counts"], str)
    assert sample.rle["size"] == list(SIZE)


def test_a_polygon_over_the_border_is_cut_there(tmp_path):
    over = [[-5, -5, 40, -5, 40, 6, -5, 6]]
    (sample,) = read("coco", make(tmp_path, annotation(segmentation=over)), "val")
    np.testing.assert_array_equal(sample.mask, box_mask(0, 0, 30, 6))


def test_crowds_do_not_count_for_their_own_category(tmp_path):
    crowd = uncompressed(box_mask(8, 0, 30, 20))
    samples, left = taken(
        make(
            tmp_path,
            annotation(1),
            annotation(2, category_id=7),
            annotation(3, segmentation=crowd, iscrowd=1),
        )
    )
    assert [sample.sample_id for sample in samples] == ["1", "2"]
    tank, ship = samples
    np.testing.assert_array_equal(tank.valid, ~box_mask(8, 0, 30, 20) | box_mask())
    assert ship.valid is None
    assert [(item.reason, item.error) for item in left] == [(coco.CROWD, "")]


def test_annotations_without_a_pixel_are_counted(tmp_path):
    outside = [[50, 50, 60, 50, 60, 60]]
    samples, left = taken(
        make(
            tmp_path,
            annotation(1, segmentation=[]),
            annotation(2, segmentation=outside),
            annotation(3),
            annotation(4, segmentation=uncompressed(np.zeros(SIZE, bool))),
        )
    )
    assert [sample.sample_id for sample in samples] == ["3"]
    assert [(item.item, item.reason, item.error) for item in left] == [
        (f"annotation {number}", "no pixel in it", "") for number in (1, 2, 4)
    ]


BROKEN = {
    "two points": {"segmentation": [[1, 2, 3, 4]]},
    "odd": {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]},
    "nested": {"segmentation": [[[1, 2], [3, 4], [5, 6]]]},
    "words": {"segmentation": [["a", 2, 3, 4, 5, 6]]},
    "infinite": {"segmentation": [[float("inf"), 2, 3, 4, 5, 6]]},
    "nan": {"segmentation": [[float("nan"), 2, 3, 4, 5, 6]]},
    "far": {"segmentation": [[1e9, 2, 3, 4, 5, 6]]},
    "endless": {"segmentation": [[-9e5, 2, 9e5, 2, -9e5, 3, 9e5, 4, -9e5, 5, 9e5, 6]]},
    "absent": {"segmentation": None},
    "rle of another size": {"segmentation": {"size": [30, 20], "counts": [600]}},
    "rle too short": {"segmentation": {"size": [20, 30], "counts": [10, 10]}},
    "rle garbled": {"segmentation": {"size": [20, 30], "counts": "~~~"}},
    "rle without counts": {"segmentation": {"size": [20, 30]}},
    "category": {"category_id": 3},
    "no category": {"category_id": None},
    "image": {"image_id": 6},
    "list for an image": {"image_id": [5]},
    "the same id": {"id": 1},
    "no id": {"id": None},
}


@pytest.mark.parametrize("changes", BROKEN.values(), ids=BROKEN)
def test_a_broken_annotation_is_one_failure_and_the_others_are_read(tmp_path, changes):
    root = make(tmp_path, annotation(1), annotation(2, **changes))
    with pytest.raises(GeoClickError):
        list(read("coco", root, "val"))
    samples, left = taken(root)
    assert [sample.sample_id for sample in samples] == ["1"]
    (item,) = left
    assert item.error.endswith(".")


def test_a_missing_image_counts_its_annotations(tmp_path):
    root = make(tmp_path, annotation(1), annotation(2))
    (root / "val/a.png").unlink()
    with pytest.raises(GeoClickError, match=r"a\.png is in none of val, images/val, images below"):
        list(read("coco", root, "val"))
    samples, left = taken(root)
    assert samples == []
    assert [(item.item, item.reason, item.count) for item in left] == [("a.png", "broken image", 2)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height": 21}, "30x20 pixels but its mask is 30x21"),
        ({"file_name": "../../secret.png"}, "leads out of"),
        ({"file_name": "/etc/passwd"}, "leads out of"),
        ({"file_name": None}, "has no file_name"),
        ({"file_name": "a\0.png"}, "is no valid file name"),
        ({"file_name": "a" * 5000}, "is no valid file name"),
        ({"width": "30"}, "but its mask is"),
    ],
)
def test_a_broken_image_says_so(tmp_path, changes, words):
    record = {"id": 5, "file_name": "a.png", "height": 20, "width": 30} | changes
    root = make(tmp_path / "root", annotation(), images=[record])
    with pytest.raises(GeoClickError) as failure:
        list(read("coco", root, "val"))
    assert words in str(failure.value)


def test_the_size_may_be_left_to_the_image(tmp_path):
    root = make(tmp_path, annotation(), images=[{"id": 5, "file_name": "a.png", "width": None}])
    (sample,) = read("coco", root, "val")
    assert sample.size == SIZE


def test_samples_come_by_image_in_the_files_order(tmp_path):
    pictures = [{"id": "b", "file_name": "b.png"}, {"id": 5, "file_name": "a.png"}]
    root = make(
        tmp_path,
        annotation(9),
        annotation(2, image_id="b"),
        annotation(4),
        annotation(3, image_id="b"),
        images=pictures,
    )
    images.write_png(root / "val/b.png", np.zeros((*SIZE, 3), np.uint8))
    assert [sample.sample_id for sample in read("coco", root, "val")] == ["2", "3", "9", "4"]


def test_the_file_is_read_once(tmp_path, monkeypatch):
    root, read_bytes, opened = make(tmp_path, annotation(1), annotation(2)), Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path.name) or read_bytes(path))
    assert len(list(read("coco", root, "val"))) == 2
    assert opened == ["instances_val.json"]


def test_no_file_names_those_that_were_tried(tmp_path):
    with pytest.raises(
        UsageError, match=r"annotations/instances_val\.json, val\.json, val/_annotations\.coco\.json"
    ):
        read("coco", tmp_path, "val")
    with pytest.raises(GeoClickError, match="leads out of"):
        read("coco", tmp_path, "../../val")


@pytest.mark.parametrize("content", ["{", "[]", '{"images": []}', '{"images": {}}', "[" * 100_000, "\xff"])
def test_a_file_that_is_not_cocos_is_one_sentence(tmp_path, content):
    (tmp_path / "val.json").write_text(content, encoding="latin-1")
    with pytest.raises(GeoClickError, match=r"val\.json"):
        read("coco", tmp_path, "val")


@pytest.mark.parametrize("value", [-1, {"provider": "a"}, [1, {"video": 2}], "id", None])
def test_whatever_else_the_file_holds_is_not_read(tmp_path, value):
    (sample,), left = taken(make(tmp_path, annotation(), info=value, licenses=value))
    assert sample.sample_id == "1"
    assert not left


def test_two_images_of_one_id_are_refused(tmp_path):
    record = {"id": 5, "file_name": "a.png"}
    with pytest.raises(GeoClickError, match="two images the same id"):
        read("coco", make(tmp_path, annotation(), images=[record, record]), "val")


corners = st.tuples(st.integers(-10, 40), st.integers(-10, 40))


@given(corners, corners)
def test_whole_boxes_are_exact(first, second):
    (x0, x1), (y0, y1) = sorted((first[0], second[0])), sorted((first[1], second[1]))
    rle = coco.to_rle([[x0, y0, x1, y0, x1, y1, x0, y1]], SIZE)
    expected = np.zeros(SIZE, bool)
    expected[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    np.testing.assert_array_equal(masks.decode_rle(rle), expected)


numbers = st.floats(-2e6, 2e6) | st.floats() | st.integers() | st.text(max_size=2) | st.none()
JSON = st.recursive(
    numbers | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.dictionaries(st.sampled_from(["size", "counts", "a"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(JSON | st.lists(st.lists(numbers, min_size=5, max_size=9), max_size=2))
def test_no_segmentation_breaks_it_otherwise(segmentation):
    try:
        rle = coco.to_rle(segmentation, SIZE)
    except GeoClickError:
        return
    assert masks.decode_rle(rle).shape == SIZE


def test_crowds_are_targets_on_request(tmp_path):
    root = make(tmp_path, annotation(1), annotation(2, segmentation=uncompressed(box_mask(8)), iscrowd=1))
    samples, left = taken(root, ReadOptions(crowds=True))
    assert [(s.sample_id, s.valid) for s in samples] == [("1", None), ("2", None)]
    assert left == []


@pytest.mark.parametrize("mark", ["0", 0.0, False, None])
def test_a_mark_of_no_crowd_may_be_a_text_or_a_float(tmp_path, mark):
    assert len(taken(make(tmp_path, annotation(1, iscrowd=mark)))[0]) == 1


@pytest.mark.parametrize("form", [str, float, int])
def test_ids_may_be_texts_or_floats(tmp_path, form):
    root = make(
        tmp_path,
        annotation(form(12), image_id=form(5), category_id=form(7)),
        categories=[{"id": 7.0, "name": "ship"}],
    )
    samples, left = taken(root)
    assert [(s.sample_id, s.query) for s in samples] == [("12", "ship")]
    assert left == []


@pytest.mark.parametrize("name", ["sub\\\\my tile.png", "sub/my%20tile.png", "sub\\\\my%20tile.png"])
def test_file_names_of_windows_and_of_addresses(tmp_path, name):
    name = name.replace("\\\\", "\\")
    root = make(tmp_path, annotation(), images=[{"id": 5, "file_name": name}])
    (root / "val/sub").mkdir()
    (root / "val/a.png").rename(root / "val/sub/my tile.png")
    (sample,), left = taken(root)
    assert (sample.image, left) == ("val/sub/my tile.png", [])


def test_a_file_name_with_a_percent_sign_is_looked_up_as_it_is_first(tmp_path):
    root = make(tmp_path, annotation(), images=[{"id": 5, "file_name": "a%20b.png"}])
    for name in ("a%20b.png", "a b.png"):
        (root / "val" / name).write_bytes((root / "val/a.png").read_bytes())
    assert taken(root)[0][0].image == "val/a%20b.png"


def test_a_polygon_next_to_a_stub_is_the_target(tmp_path):
    (sample,), left = taken(make(tmp_path, annotation(segmentation=[[4, 4], BOX[0], [1, 1, 2, 2]])))
    np.testing.assert_array_equal(sample.mask, box_mask())
    assert [(i.reason, i.count, i.error) for i in left] == [
        ("polygons of fewer than three points, ignored", 2, "")
    ]
    samples, left = taken(make(tmp_path / "stub", annotation(segmentation=[[4, 4]])))
    assert samples == []
    assert "three points or more" in left[0].error


def test_images_without_annotations_have_no_target_on_request(tmp_path):
    root = make(
        tmp_path,
        annotation(),
        images=[{"id": 5, "file_name": "a.png"}, {"id": 6, "file_name": "b.png"}],
    )
    (root / "val/b.png").write_bytes((root / "val/a.png").read_bytes())
    assert [s.image for s in taken(root)[0]] == ["val/a.png"]
    samples, left = taken(root, ReadOptions(empty_images=True))
    assert [(s.sample_id, s.image, s.query, s.task, int(s.mask.sum())) for s in samples] == [
        ("1", "val/a.png", "storage tank", "semantic", 24),
        ("image-6-category-1", "val/b.png", "storage tank", "no_target", 0),
        ("image-6-category-7", "val/b.png", "ship", "no_target", 0),
    ]
    assert left == []


def test_by_class_the_annotations_of_a_category_are_one_target(tmp_path):
    right = [[12, 2, 20, 2, 20, 6, 12, 6]]
    root = make(
        tmp_path,
        annotation(1),
        annotation(2, category_id=7),
        annotation(3, segmentation=right),
        annotation(4, segmentation=[[0, 10, 5, 10, 5, 15, 0, 15]], iscrowd=1),
    )
    tanks, ship = taken(root, ReadOptions(by_class=True))[0]
    assert (tanks.sample_id, tanks.query) == ("image-5-category-1", "storage tank")
    np.testing.assert_array_equal(tanks.mask, box_mask() | box_mask(12, 2, 20, 6))
    np.testing.assert_array_equal(~tanks.valid, box_mask(0, 10, 5, 15))
    assert (ship.sample_id, ship.valid) == ("image-5-category-7", None)
    assert [s.sample_id for s in taken(root)[0]] == ["1", "2", "3"]
