import shutil

import numpy as np
import pytest
from PIL import Image

from geoclick import masks
from geoclick.datasets import ReadOptions, read
from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.evaluation.options import EvaluateOptions, resolve
from geoclick.scenes.copies import LAYOUTS

FOLDERS = {"refsegrs": ("images", "masks", ".tif"), "risbench": ("img_rgb", "mask", "")}
NAMES = {"refsegrs": list("5678"), "risbench": [f"test_{number}_0.png" for number in range(5, 9)]}


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    roots = {name: tmp_path_factory.mktemp(name) for name in FOLDERS}
    for name, root in roots.items():
        LAYOUTS[name](root, 4, 0)
    return roots


@pytest.fixture(params=FOLDERS)
def name(request):
    return request.param


@pytest.fixture
def own(copies, tmp_path, name):
    """A copy that a test may spoil."""
    return shutil.copytree(copies[name], tmp_path / "root")


def taken(name, root, split="test", **options):
    left = []
    samples = list(read(name, root, split, options=ReadOptions(**options), on_left_out=left.append))
    return samples, left


def test_the_samples_of_the_copies(copies, name):
    root, (images, folder, suffix) = copies[name], FOLDERS[name]
    samples, left = taken(name, root)
    assert left == []
    assert [sample.sample_id for sample in samples] == [f"{stem}/1" for stem in NAMES[name]]
    lines = (root / "output_phrase_test.txt").read_text().splitlines()
    for sample, stem, line in zip(samples, NAMES[name], lines, strict=True):
        assert (sample.dataset, sample.split, sample.task) == (name, "test", "referring")
        assert (sample.image, sample.size) == (f"{images}/{stem}{suffix}", (512, 512))
        assert f"{stem} {sample.query}" == line
        assert sample.read_image().shape == (512, 512, 3)
        with Image.open(root / folder / f"{stem}{suffix}") as picture:
            np.testing.assert_array_equal(sample.mask, np.asarray(picture.convert("L")) == 255)


def test_the_copies_have_what_is_unusual(copies):
    for name, (_, folder, suffix) in FOLDERS.items():
        pictures = [Image.open(copies[name] / folder / f"{stem}{suffix}") for stem in NAMES[name]]
        assert [picture.mode for picture in pictures] == ["RGB", "L", "RGB", "L"]
        darkest = [int(np.asarray(picture).min()) for picture in pictures]
        assert darkest == ([0, 0, 30, 0] if name == "refsegrs" else [0, 0, 0, 0])
    val = (copies["risbench"] / "output_phrase_val.txt").read_text()
    assert [line.split("_")[0] for line in val.splitlines()] == ["train", "train"]


def test_every_split_is_read(copies, name):
    splits = {
        split: {s.image for s in taken(name, copies[name], split)[0]} for split in ("train", "val", "test")
    }
    assert [len(found) for found in splits.values()] == [2, 2, 4]
    assert len(set().union(*splits.values())) == 8


def rewrite(root, *lines, newline="\n", mark=b""):
    (root / "output_phrase_test.txt").write_bytes(mark + newline.join(lines).encode())


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines_as_any_editor_leaves_them(own, name, newline, mark):
    a, b = NAMES[name][:2]
    rewrite(own, f"{a} the red  car", "", f"  {b}\tcafé\u2028 wall ", "", newline=newline, mark=mark)
    samples, left = taken(name, own)
    assert [(s.sample_id, s.query) for s in samples] == [
        (f"{a}/1", "the red  car"),
        (f"{b}/1", "café\u2028 wall"),
    ]
    assert left == []


def test_several_phrases_of_one_mask(own, name):
    a, b = NAMES[name][:2]
    rewrite(own, f"{a} one", f"{b} two", f"{a} three", f"{a}")
    samples, left = taken(name, own)
    assert [(s.sample_id, s.query) for s in samples] == [
        (f"{a}/1", "one"),
        (f"{a}/2", "three"),
        (f"{b}/1", "two"),
    ]
    assert [(item.item, item.reason, item.error) for item in left] == [(f"{a}/3", "empty question", "")]
    assert [s.query for s in taken(name, own, question="first")[0]] == ["one", "two"]
    drawn = {taken(name, own, question="random", question_seed=seed)[0][0].query for seed in range(8)}
    assert drawn == {"one", "three"}


def test_a_line_that_is_no_utf_8(own, name):
    (own / "output_phrase_test.txt").write_bytes(NAMES[name][0].encode() + b" caf\xe9")
    (sample,), _ = taken(name, own)
    assert sample.query == "caf\N{REPLACEMENT CHARACTER}"


def test_an_empty_mask_is_no_target(own, name):
    _, folder, suffix = FOLDERS[name]
    Image.new("L", (512, 512)).save(own / folder / f"{NAMES[name][0]}{suffix}")
    sample = taken(name, own)[0][0]
    assert (sample.task, masks.area(sample.rle)) == ("no_target", 0)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("spoil", ["missing", "cut", "another size", "leads out"])
def test_a_broken_picture_is_one_failure_and_the_others_are_read(own, name, kind, spoil):
    folder, suffix = FOLDERS[name][kind], FOLDERS[name][2]
    path = own / folder / f"{NAMES[name][1]}{suffix}"
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:7])
    elif spoil == "another size":
        Image.new("L", (256, 256)).save(path)
    else:
        path.rename(own.parent / "secret")
    if spoil == "leads out":
        path.symlink_to(own.parent / "secret")
    words = {
        "missing": "does not exist",
        "cut": "cannot be read as an image",
        "another size": "but its mask is",
        "leads out": "leads out of",
    }
    with pytest.raises(GeoClickError, match=words[spoil]):
        list(read(name, own, "test"))
    samples, left = taken(name, own)
    assert [s.sample_id for s in samples] == [f"{stem}/1" for stem in NAMES[name] if stem != NAMES[name][1]]
    assert [(item.reason, item.count) for item in left] == [("broken image or mask", 1)]


@pytest.mark.parametrize(
    ("stem", "words"),
    [("../../secret", "leads out of"), ("a" * 5000, "no valid file name"), ("a\0", "no valid file name")],
)
def test_names_that_name_nothing(own, name, stem, words):
    rewrite(own, f"{stem} the car", f"{NAMES[name][0]} the tree")
    samples, left = taken(name, own)
    assert [s.query for s in samples] == ["the tree"]
    assert words in left[0].error


def test_images_are_opened_one_by_one(own, name):
    images, _, suffix = FOLDERS[name]
    (own / images / f"{NAMES[name][1]}{suffix}").write_bytes(b"no image")
    samples = read(name, own, "test")
    assert next(samples).sample_id == f"{NAMES[name][0]}/1"
    with pytest.raises(GeoClickError, match="cannot be read as an image"):
        next(samples)


def test_a_split_that_is_not_there(copies, name):
    with pytest.raises(UsageError, match=r"lacks output_phrase_dev\.txt"):
        read(name, copies[name], "dev")
    with pytest.raises(GeoClickError, match="leads out of"):
        read(name, copies[name], "/../../../secret")


def test_masks_of_refsegrs_are_read_as_the_loader_of_the_mode(copies, tmp_path):
    root = shutil.copytree(copies["refsegrs"], tmp_path / "root")
    mask = np.zeros((512, 512, 3), np.uint8)
    mask[:10] = 255
    mask[10:30] = (0, 80, 0)
    mask[30:60] = (40, 40, 40)
    Image.fromarray(mask).save(root / "masks/5.tif")

    def rows(**options):
        sample = taken("refsegrs", root, **options)[0][0]
        return [int(row) for row in np.flatnonzero(sample.mask.any(axis=1))]

    assert rows() == rows(mode="native") == rows(mode="rmsin") == list(range(30))
    assert rows(mode="think2seg") == [*range(10), *range(30, 60)]
    assert rows(mode="segearth-r1") == list(range(10))
    for mode in ("native", "think2seg", "segearth-r1"):
        options = resolve(EvaluateOptions(output="out", root=str(root), dataset="refsegrs", mode=mode))
        assert options.reading().mode == mode
