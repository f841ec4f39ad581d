import json
import pickle
import pickletools
import shutil
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from geoclick import masks
from geoclick.datasets import ReadOptions, plain_pickle, read, rrsis_d
from geoclick.errors import GeoClickError, UsageError
from geoclick.scenes.copies import LAYOUTS


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    root = tmp_path_factory.mktemp("rrsis-d")
    LAYOUTS["rrsis-d"](root, 4, 0)
    return root


@pytest.fixture
def own(copy, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(copy, tmp_path / "root")


def load(root):
    return plain_pickle.load(root / rrsis_d.REFS), json.loads((root / rrsis_d.INSTANCES).read_text())


def save(root, refs, content):
    (root / rrsis_d.REFS).write_bytes(pickle.dumps(refs))
    (root / rrsis_d.INSTANCES).write_text(json.dumps(content))


def taken(root, split="test", **options):
    left = []
    samples = list(read("rrsis-d", root, split, options=ReadOptions(**options), on_left_out=left.append))
    return samples, left


def test_the_samples_of_the_copy(copy):
    samples, left = taken(copy)
    assert [sample.sample_id for sample in samples] == ["5/1", "6/1", "7/1", "8/1", "8/3"]
    assert [sample.size for sample in samples] == [(800, 800), (801, 800), (800, 800), *[(787, 800)] * 2]
    assert {(sample.dataset, sample.split, sample.task) for sample in samples} == {
        ("rrsis-d", "test", "referring")
    }
    assert [(item.item, item.reason, item.error) for item in left] == [("8/2", "empty question", "")]
    refs, content = load(copy)
    names = {category["id"]: category["name"] for category in content["categories"]}
    for sample in samples:
        number, sentence = (int(part) for part in sample.sample_id.split("/"))
        ref = refs[number - 1]
        assert sample.image == f"images/rrsisd/JPEGImages/{number:05d}.jpg"
        assert sample.query == ref["sentences"][sentence - 1]["raw"]
        assert sample.category == names[ref["category_id"]]
        assert sample.read_image().shape == (*sample.size, 3)
        planes = content["annotations"][number - 1]["segmentation"]
        union = coco.decode(planes).any(axis=2)
        height, width = sample.size
        expected = Image.fromarray(union).resize((width, height), Image.Resampling.NEAREST)
        np.testing.assert_array_equal(sample.mask, np.asarray(expected))
        assert sample.valid is None


def test_the_copy_has_what_is_unusual(copy):
    refs, content = load(copy)
    planes = [annotation["segmentation"] for annotation in content["annotations"]]
    assert [len(found) for found in planes] == [1, 1, 1, 1, 1, 1, 2, 1]
    assert coco.decode(planes[6]).sum(axis=2).max() == 2
    assert {tuple(plane["size"]) for found in planes for plane in found} == {(800, 800)}
    assert [len(ref["sentences"]) for ref in refs] == [1] * 7 + [3]
    assert {ref["split"] for ref in refs} == {"train", "val", "test"}


def test_splits_share_no_target(copy):
    splits = {split: {s.sample_id for s in taken(copy, split)[0]} for split in ("train", "val", "test")}
    assert [len(found) for found in splits.values()] == [2, 2, 5]
    assert len(set().union(*splits.values())) == 9


def test_first_and_random_sentences(copy):
    everything = {sample.sample_id: sample.query for sample in taken(copy)[0]}
    first, _ = taken(copy, question="first")
    assert [sample.sample_id for sample in first] == ["5/1", "6/1", "7/1", "8/1"]
    drawn = [taken(copy, question="random", question_seed=seed)[0] for seed in range(8)]
    assert {samples[-1].sample_id for samples in drawn} == {"8/1", "8/3"}
    for samples in drawn:
        assert len(samples) == 4
        assert all(everything[sample.sample_id] == sample.query for sample in samples)


def test_each_thing_is_found_by_its_own_id(own):
    """In the set itself the ids of a ref, its image and its annotation are the same number."""
    expected = [(s.sample_id, s.image, s.rle) for s in taken(own)[0]]
    refs, content = load(own)
    for ref in refs:
        ref["image_id"], ref["ann_id"] = f"image {ref['image_id']}", 100 - ref["ann_id"]
        ref["file_name"] = "of the ref, not used.jpg"
    for image in content["images"]:
        image["id"] = f"image {image['id']}"
    for annotation in content["annotations"]:
        annotation["id"] = 100 - annotation["id"]
    content["annotations"].reverse()
    save(own, refs, content)
    assert [(s.sample_id, s.image, s.rle) for s in taken(own)[0]] == expected


def test_of_two_records_with_one_id_the_last_counts(own):
    """As in REFER, by which the published scores were made."""
    refs, content = load(own)
    content["images"].insert(0, {"id": 5, "file_name": "gone.jpg"})
    content["annotations"].insert(0, {"id": 5, "segmentation": []})
    save(own, refs, content)
    sample = taken(own)[0][0]
    assert (sample.sample_id, sample.task) == ("5/1", "referring")


def python_2(data):
    """A pickle as Python 2 wrote it: every text as bytes."""
    out, operations = b"", list(pickletools.genops(data))
    ends = [position for _, _, position in operations[1:]] + [len(data)]
    for (opcode, argument, start), end in zip(operations, ends, strict=True):
        if "UNICODE" in opcode.name:
            text = argument.encode("latin-1")
            out += b"T" + struct.pack("<i", len(text)) + text
        else:
            out += data[start:end]
    return out


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_gives_the_same(copy, own, protocol):
    refs, _ = load(copy)
    (own / rrsis_d.REFS).write_bytes(pickle.dumps(refs, protocol))
    assert taken(own)[0] == [replace(sample, root=own) for sample in taken(copy)[0]]


def test_texts_of_python_2(own):
    refs, _ = load(own)
    refs[4]["sentences"][0]["raw"] = "the café"
    (own / rrsis_d.REFS).write_bytes(python_2(pickle.dumps(refs, 2)))
    assert b"caf\xe9" in (own / rrsis_d.REFS).read_bytes()
    samples, _ = taken(own)
    assert len(samples) == 5
    assert samples[0].query == "the café"


def test_a_mark_before_the_records(copy, own):
    content = (own / rrsis_d.INSTANCES).read_bytes()
    (own / rrsis_d.INSTANCES).write_bytes(b"\xef\xbb\xbf" + content)
    assert len(taken(own)[0]) == 5


def test_the_words_that_are_asked(own):
    refs, content = load(own)
    sentence = refs[4]["sentences"][0]
    sentence["raw"], sentence["sent"] = "The RED one!", "the red one"
    refs[5]["sentences"][0] = {"sent": "only sent"}
    refs[6]["sentences"] += [{"raw": None}, "a text", {"raw": 7}, None]
    refs[7]["sentences"] = 3
    save(own, refs, content)
    samples, left = taken(own)
    assert [sample.query for sample in samples[:2]] == ["The RED one!", "only sent"]
    assert [sample.sample_id for sample in samples] == ["5/1", "6/1", "7/1"]
    assert [item.item for item in left] == ["7/2", "7/3", "7/4", "7/5", "8"]


BOX = [[100, 100, 300, 100, 300, 200, 100, 200]]


@pytest.mark.parametrize("form", ["polygons", "one RLE", "run lengths", "planes apart", "nothing"])
def test_other_segmentations(own, form):
    expected = np.zeros((800, 800), bool)
    expected[100:200, 100:300] = form != "nothing"
    left, right = expected.copy(), expected.copy()
    left[:, 200:], right[:, :200] = False, False
    segmentation = {
        "polygons": BOX,
        "one RLE": masks.encode_rle(expected),
        "run lengths": [{"size": [800, 800], "counts": runs(expected)}],
        "planes apart": [masks.encode_rle(left), {"size": [800, 800], "counts": runs(right)}],
        "nothing": [],
    }[form]
    refs, content = load(own)
    content["annotations"][4]["segmentation"] = segmentation
    save(own, refs, content)
    sample = taken(own)[0][0]
    np.testing.assert_array_equal(sample.mask, expected)
    assert sample.task == ("no_target" if form == "nothing" else "referring")
    assert isinstance(sample.rle["counts"], str)


def runs(mask):
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    return np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()


def edit(where, **fields):
    """An edit of the third test ref, of its image or of its annotation."""

    def apply(refs, content):
        {"ref": refs, "image": content["images"], "annotation": content["annotations"]}[where][6].update(
            fields
        )

    return apply


def removed(kind):
    def apply(refs, content):
        del content[kind][6]

    return apply


FAILURES = {
    "no annotation": (removed("annotations"), "Ref 7 has the ann_id 7, which rrsisd/instances.json lacks"),
    "no image": (removed("images"), "Ref 7 has the image_id 7, which rrsisd/instances.json lacks"),
    "a list for an id": (edit("ref", ann_id=[7]), r"has the ann_id \[7\]"),
    "no ref_id": (edit("ref", ref_id=None), "has the ref_id None"),
    "a ref_id twice": (edit("ref", ref_id=5), "has the ref_id 5"),
    "a ref_id twice, as a text": (edit("ref", ref_id="5"), "has the ref_id '5'"),
    "no file": (edit("image", file_name="9.jpg"), r"9\.jpg does not exist"),
    "no name": (edit("image", file_name=None), "has no file_name"),
    "a name that leads out": (edit("image", file_name="../../../../secret.jpg"), "leads out of"),
    "no name of a file": (edit("image", file_name="a\0.jpg"), "is no valid file name"),
    "a long name": (edit("image", file_name="a" * 5000), "is no valid file name"),
    "no segmentation": (
        edit("annotation", segmentation=None),
        r"Annotation 7 of 00007\.jpg: .*polygons nor an RLE",
    ),
    "an RLE cut off": (edit("annotation", segmentation=[{"size": [800, 800], "counts": [5]}]), "do not fill"),
    "garbled counts": (edit("annotation", segmentation=[{"size": [800, 800], "counts": "~"}]), "no COCO RLE"),
    "a mask of another size": (
        edit("annotation", segmentation=[{"size": [400, 400], "counts": [160000]}]),
        "400",
    ),
    "a size like a bomb": (
        edit("annotation", segmentation=[{"size": [30000, 30000], "counts": [900000000]}] * 50),
        "30000",
    ),
    "planes of two sizes": (
        edit(
            "annotation",
            segmentation=[{"size": [800, 800], "counts": [640000]}, {"size": [800, 801], "counts": [640800]}],
        ),
        "same size",
    ),
}


@pytest.mark.parametrize(("spoil", "words"), FAILURES.values(), ids=FAILURES)
def test_a_broken_ref_is_one_failure_and_the_others_are_read(own, spoil, words):
    Image.new("RGB", (800, 800)).save(own.parent / "secret.jpg")
    refs, content = load(own)
    spoil(refs, content)
    save(own, refs, content)
    with pytest.raises(GeoClickError, match=words):
        list(read("rrsis-d", own, "test"))
    samples, left = taken(own)
    assert [sample.sample_id for sample in samples] == ["5/1", "6/1", "8/1", "8/3"]
    (item,) = [item for item in left if item.error]
    assert item.reason == "broken ref"
    assert item.error.endswith(".")


def test_a_category_without_a_name_is_no_failure(own):
    refs, content = load(own)
    refs[4]["category_id"], refs[5]["category_id"] = 99, [1]
    save(own, refs, content)
    assert [sample.category for sample in taken(own)[0][:2]] == ["", ""]


def test_images_are_opened_one_by_one(own):
    (own / "images/rrsisd/JPEGImages/00006.jpg").write_bytes(b"no image")
    samples = read("rrsis-d", own, "test")
    assert next(samples).sample_id == "5/1"
    with pytest.raises(GeoClickError, match="cannot be read as an image"):
        next(samples)


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch pwned",)


def test_code_in_the_pickle_is_not_run(own, monkeypatch):
    monkeypatch.chdir(own)
    refs, content = load(own)
    refs[0]["sentences"].append(Evil())
    save(own, refs, content)
    with pytest.raises(GeoClickError, match=r"refs\(unc\)\.p is refused: it loads posix\.system"):
        read("rrsis-d", own, "test")
    assert not (own / "pwned").exists()


@pytest.mark.parametrize("name", [rrsis_d.REFS, rrsis_d.INSTANCES])
def test_a_root_without_the_files(own, name):
    (own / name).unlink()
    with pytest.raises(UsageError, match="lacks rrsisd/"):
        read("rrsis-d", own, "test")


def test_other_splits_are_named(own):
    with pytest.raises(UsageError, match=r"no ref of the split dev; its splits are: test, train, val\."):
        read("rrsis-d", own, "dev")


def test_a_value_that_contains_itself_many_times_is_shortened(own):
    """A list of one list twice, and so on for sixty levels, would be printed in 2**60 words."""
    nested = []
    for _ in range(60):
        nested = [nested, nested]
    refs, content = load(own)
    refs[4] |= {"ref_id": nested, "split": "test"}
    refs[5] |= {"ann_id": nested}
    refs[6]["sentences"] = [{"raw": nested}, nested]
    refs.append({"split": nested})
    save(own, refs, content)
    samples, left = taken(own)
    assert [sample.sample_id for sample in samples] == ["8/1", "8/3"]
    assert max(len(item.item + item.error) for item in left) < 2000
    with pytest.raises(UsageError, match=r"its splits are: test, train, val\."):
        read("rrsis-d", own, "dev")


@pytest.mark.parametrize("refs", [{}, [1], "refs"])
def test_a_pickle_of_something_else(own, refs):
    (own / rrsis_d.REFS).write_bytes(pickle.dumps(refs))
    with pytest.raises(GeoClickError, match="must be a list of refs"):
        read("rrsis-d", own, "test")


def test_records_of_something_else(own):
    (own / rrsis_d.INSTANCES).write_text("[]")
    with pytest.raises(GeoClickError, match="must hold lists of objects"):
        read("rrsis-d", own, "test")


def test_a_link_may_not_leave_the_root(own):
    shutil.move(own / "rrsisd", own.parent / "rrsisd")
    (own / "rrsisd").symlink_to(own.parent / "rrsisd")
    with pytest.raises(GeoClickError, match="leads out of"):
        read("rrsis-d", own, "test")
