import json
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from geoclick.datasets import ReadOptions, read
from geoclick.errors import GeoClickError, UsageError
from geoclick.scenes.copies import LAYOUTS


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    root = tmp_path_factory.mktemp("earthreason")
    LAYOUTS["earthreason"](root, 4, 0)
    return root


@pytest.fixture
def own(copy, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(copy, tmp_path / "root")


def taken(root, split="test", **options):
    left = []
    samples = list(read("earthreason", root, split, options=ReadOptions(**options), on_left_out=left.append))
    return samples, left


def test_the_samples_of_the_copy(copy):
    samples, left = taken(copy)
    assert left == []
    assert [sample.sample_id for sample in samples] == [
        f"test_{number:04d}/{question}" for number in range(4) for question in range(1, 7)
    ]
    assert [sample.size for sample in samples[::6]] == [(600, 600), (256, 256), (123, 140), (1024, 768)]
    assert [sample.task for sample in samples[::6]] == ["reasoning", "no_target", "reasoning", "reasoning"]
    assert [sample.image for sample in samples[::6]] == [
        f"test/images/test_{number:04d}.{'png' if number == 2 else 'jpg'}" for number in range(4)
    ]
    for sample in samples:
        stem, question = sample.sample_id.split("/")
        questions = json.loads((copy / f"test/QAs/{stem}.json").read_bytes())["questions"]
        assert sample.query == questions[int(question) - 1]
        assert sample.read_image().shape == (*sample.size, 3)
        with Image.open(copy / f"test/labels/{stem}.png") as label:
            np.testing.assert_array_equal(sample.mask, np.asarray(label) != 0)


def test_the_copy_has_what_is_unusual(copy):
    labels = [Image.open(copy / f"test/labels/test_{number:04d}.png") for number in range(4)]
    assert [label.mode for label in labels] == ["L", "L", "L", "P"]
    assert [int(np.asarray(label).max()) for label in labels] == [255, 0, 1, 1]
    assert int(np.asarray(labels[3].convert("L")).max()) == 0
    questions = [(copy / f"test/QAs/test_{number:04d}.json").read_bytes() for number in range(4)]
    assert [text.startswith(b"\xef\xbb\xbf") for text in questions] == [False, False, True, False]
    assert [len(json.loads(text)["answer"]) for text in questions] == [3, 0, 3, 3]


def test_one_question_an_image(copy):
    everything = {sample.sample_id: sample.query for sample in taken(copy)[0]}
    first, _ = taken(copy, question="first")
    assert [sample.sample_id for sample in first] == [f"test_{number:04d}/1" for number in range(4)]
    drawn = [taken(copy, question="random", question_seed=seed)[0] for seed in range(20)]
    assert {samples[0].sample_id for samples in drawn} == {f"test_0000/{number}" for number in range(1, 7)}
    assert all(everything[sample.sample_id] == sample.query for samples in drawn for sample in samples)
    # What is drawn for one image does not depend on the others.
    (copy / "test/images").joinpath("test_0000.jpg").rename(copy / "test/images/.hidden.jpg")
    try:
        fewer, _ = taken(copy, question="random", question_seed=3)
    finally:
        (copy / "test/images/.hidden.jpg").rename(copy / "test/images/test_0000.jpg")
    assert fewer == drawn[3][1:]


def test_answers_are_never_asked(own):
    for path in (own / "test/QAs").iterdir():
        content = json.loads(path.read_bytes())
        content["answer"] = ["SECRET"]
        path.write_text(json.dumps(content))
    assert all("SECRET" not in repr(sample) for sample in taken(own)[0])


@pytest.mark.parametrize(("folder", "suffix"), [("images", "jpg"), ("labels", "png"), ("QAs", "json")])
def test_a_stem_that_is_not_in_all_three_folders(own, folder, suffix):
    (own / f"test/{folder}/test_0001.{suffix}").unlink()
    with pytest.raises(GeoClickError, match=f"test/{folder} holds 0 files of the name test_0001"):
        list(read("earthreason", own, "test"))
    samples, left = taken(own, question="first")
    assert [sample.sample_id for sample in samples] == ["test_0000/1", "test_0002/1", "test_0003/1"]
    assert [(item.item, item.reason) for item in left] == [("test/test_0001", "broken image, label or QAs")]


def test_files_go_together_by_stem_and_not_by_their_place(own):
    """Where one image more than labels is there, sorted lists would shift against each other."""
    expected = [s.rle for s in taken(own)[0]]
    Image.new("RGB", (9, 9)).save(own / "test/images/a_first.jpg")
    samples, left = taken(own)
    assert [s.rle for s in samples] == expected
    assert [item.item for item in left] == ["test/a_first"]


def test_two_images_of_one_stem(own):
    shutil.copy(own / "test/images/test_0000.jpg", own / "test/images/test_0000.PNG")
    samples, left = taken(own, question="first")
    assert len(samples) == 3
    assert "test/images holds 2 files of the name test_0000" in left[0].error


def test_other_files_are_left_alone(own):
    for name in (
        "test/images/Thumbs.db",
        "test/images/._test_0000.jpg",
        "test/labels/.DS_Store",
        "test/QAs/a.txt",
    ):
        (own / name).write_bytes(b"x")
    samples, left = taken(own)
    assert len(samples) == 24
    assert left == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe{", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[]", "must hold"),
        (b'{"answer": []}', "must hold"),
        (b'{"questions": "where?"}', "must hold"),
        (b'{"questions": [1]}', "must hold"),
    ],
)
def test_broken_questions(own, content, words):
    (own / "test/QAs/test_0000.json").write_bytes(content)
    with pytest.raises(GeoClickError, match=words):
        list(read("earthreason", own, "test"))
    samples, left = taken(own)
    assert len(samples) == 18
    assert len(left) == 1


def test_questions_without_words(own):
    (own / "test/QAs/test_0000.json").write_text('{"questions": ["", "where?", " "]}')
    (own / "test/QAs/test_0001.json").write_text('{"questions": []}')
    samples, left = taken(own)
    assert [sample.sample_id for sample in samples[:2]] == ["test_0000/2", "test_0002/1"]
    assert [(item.item, item.reason, item.error) for item in left] == [
        ("test_0000/1", "empty question", ""),
        ("test_0000/3", "empty question", ""),
        ("test_0001", "no question", ""),
    ]


def test_a_label_of_nearly_the_same_size_is_stretched(own):
    path = own / "test/labels/test_0000.png"
    with Image.open(path) as label:
        label.resize((590, 601), Image.Resampling.NEAREST).save(path)
    sample = taken(own)[0][0]
    assert (sample.size, tuple(sample.rle["size"])) == ((600, 600), (600, 600))
    assert sample.read_image().shape == (600, 600, 3)


@pytest.mark.parametrize("spoil", ["another size", "image cut", "label cut"])
def test_broken_pictures(own, spoil):
    image, label = own / "test/images/test_0000.jpg", own / "test/labels/test_0000.png"
    if spoil == "another size":
        Image.new("L", (300, 300)).save(label)
    else:
        path = image if spoil == "image cut" else label
        path.write_bytes(path.read_bytes()[: 100 if spoil == "image cut" else 40])
    words = (
        "600x600 pixels but its mask is 300x300" if spoil == "another size" else "cannot be read as an image"
    )
    with pytest.raises(GeoClickError, match=words):
        list(read("earthreason", own, "test"))
    samples, left = taken(own)
    assert len(samples) == 18
    assert [item.item for item in left] == ["test/test_0000"]


def test_the_largest_image_there_is(tmp_path):
    """7,617 pixels a side, below what Pillow takes for an attack."""
    side = 7617
    for folder in ("images", "labels", "QAs"):
        (tmp_path / "test" / folder).mkdir(parents=True)
    mask = np.zeros((side, side), bool)
    mask[5000:7000, 100:200] = True
    Image.fromarray(mask).save(tmp_path / "test/labels/a.png", compress_level=1)
    shutil.copy(tmp_path / "test/labels/a.png", tmp_path / "test/images/a.png")
    (tmp_path / "test/QAs/a.json").write_text('{"questions": ["where?"], "answer": []}')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (sample,) = read("earthreason", tmp_path, "test")
    assert sample.size == (side, side)
    assert np.count_nonzero(sample.mask) == 200_000


def test_images_are_opened_one_by_one(own):
    (own / "test/images/test_0001.jpg").write_bytes(b"no image")
    samples = read("earthreason", own, "test", options=ReadOptions(question="first"))
    assert next(samples).sample_id == "test_0000/1"
    with pytest.raises(GeoClickError, match="cannot be read as an image"):
        next(samples)


def test_a_split_that_is_not_there(copy):
    with pytest.raises(UsageError, match="lacks the folder images"):
        read("earthreason", copy, "dev")
    with pytest.raises(GeoClickError, match="leads out of"):
        read("earthreason", copy, "../..")


def test_a_link_may_not_leave_the_root(own):
    secret = own.parent / "secret.png"
    Image.new("L", (600, 600)).save(secret)
    label = own / "test/labels/test_0000.png"
    label.unlink()
    label.symlink_to(secret)
    _, left = taken(own)
    assert "leads out of" in left[0].error
