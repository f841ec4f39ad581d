import numpy as np
import pytest
from PIL import Image

from geoclick import datasets, images, masks
from geoclick.datasets import semantic
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.datasets.class_maps import IGNORED
from geoclick.errors import GeoClickError, UsageError
from geoclick.scenes.copies.semantic import COPIES, SEMANTIC, file_names, paint

NAMES = tuple(SEMANTIC)
IMAGES = 3


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """A function: the folder of a benchmark's copy, written once."""
    folder = tmp_path_factory.mktemp("copies")

    def copy(name):
        if not (folder / name).is_dir():
            SEMANTIC[name](folder / name, IMAGES, 0)
        return folder / name

    return copy


def read(name, root, split=None, **rest):
    return list(datasets.read(name, root, split or BENCHMARKS[name].split, **rest))


@pytest.mark.parametrize("name", NAMES)
def test_every_class_of_every_image_is_read_as_it_was_drawn(copies, name):
    left = []
    samples, benchmark = read(name, copies(name), on_left_out=left.append), BENCHMARKS[name]
    assert left == []
    # A set whose score is the IoU of one class asks for that class alone.
    asked = [benchmark.foreground] if benchmark.foreground is not None else range(len(benchmark.classes))
    assert len(samples) == IMAGES * len(asked)
    assert len({sample.sample_id for sample in samples}) == len(samples)
    drawn = {file_names(name, index)[0]: paint(name, 0, index) for index in range(IMAGES)}
    for place, sample in enumerate(samples):
        number = asked[place % len(asked)]
        image, classes = drawn[sample.image.rpartition("/")[2]]
        assert (sample.dataset, sample.split, sample.task) == (name, benchmark.split, "semantic")
        assert (sample.category, sample.query) == (benchmark.names[number], benchmark.prompts[number][0])
        assert sample.sample_id.endswith("/" + sample.category.replace(" ", "-"))
        if name == "wbs-si":  # JPEG
            assert masks.iou(sample.mask, classes == number) > 0.99
        else:
            np.testing.assert_array_equal(sample.mask, classes == number)
        if (classes == IGNORED).any():
            np.testing.assert_array_equal(sample.valid, classes != IGNORED)
        else:
            assert sample.valid is None
        if number == asked[0]:
            assert np.abs(sample.read_image().astype(int) - image).mean() < 6
    if name in ("wbs-si", "deepglobe"):
        greys = np.asarray(
            Image.open(copies(name) / COPIES[name].folders[1] / file_names(name, 0)[1]).convert("L")
        )
        assert ((greys > 0) & (greys < 128)).any()  # which would count without the threshold


def small(root, name, labels, *, size=(4, 6)):
    """A folder in the first layout of a benchmark, an image and a label for each name of `labels`."""
    layout, split = BENCHMARKS[name].layouts[0], BENCHMARKS[name].split
    for stem, label in labels.items():
        for folder, suffix, pixels in (
            (layout.images, layout.image_suffix, np.zeros((*size, 3), np.uint8)),
            (layout.labels, layout.label_suffix, np.asarray(label, np.uint8)),
        ):
            path = root / folder.format(split=split) / f"{stem}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


def grid(*values, size=(4, 6)):
    return np.resize(np.array(values, np.uint8), size)


def test_absent_classes_have_empty_targets_and_ignored_pixels_do_not_count(tmp_path):
    samples = read("loveda", small(tmp_path, "loveda", {"7": grid(0, 1, 4)}))
    assert [(s.sample_id, int(s.mask.sum())) for s in samples] == [
        *(("7/background", 8), ("7/building", 0), ("7/road", 0), ("7/water", 8)),
        *(("7/barren", 0), ("7/forest", 0), ("7/agricultural", 0)),
    ]
    assert all(s.size == s.mask.shape == (4, 6) and int(s.valid.sum()) == 16 for s in samples)


def test_single_class_sets_ask_for_it_alone(tmp_path):
    inria = read("inria", small(tmp_path / "inria", "inria", {"a": grid(0, 255)}))
    assert [(s.category, int(s.mask.sum()), s.valid) for s in inria] == [("building", 12, None)]
    whu = read("whu-aerial", small(tmp_path / "whu", "whu-aerial", {"a": grid(0, 0, 1)}))
    assert [(s.category, int(s.mask.sum())) for s in whu] == [("building", 8)]


def test_an_image_without_a_scored_pixel_is_left_out_and_counted(tmp_path):
    left, root = [], small(tmp_path, "loveda", {"a": grid(0), "b": grid(1)})
    assert {sample.image for sample in read("loveda", root, on_left_out=left.append)} == {"img_dir/val/b.png"}
    assert [(i.item, i.reason, i.count, i.error) for i in left] == [
        ("img_dir/val/a.png", "no pixel that is scored", 7, "")
    ]


def test_unknown_values_are_counted_and_do_not_count(tmp_path):
    left = []
    samples = read("vdd", small(tmp_path, "vdd", {"a": grid(0, 99)}), on_left_out=left.append)
    assert [(item.item, item.count, item.error) for item in left] == [("test/src/a.jpg", 12, "")]
    assert all(int(sample.valid.sum()) == 12 for sample in samples)


def test_a_label_is_decoded_once_and_when_its_image_is_reached(tmp_path, monkeypatch):
    root, decoded = small(tmp_path, "loveda", {"a": grid(1), "b": grid(2)}), []
    real = semantic.read_class_map
    monkeypatch.setattr(
        semantic, "read_class_map", lambda path, *rest: decoded.append(path.name) or real(path, *rest)
    )
    stream = datasets.read("loveda", root, "val")
    assert decoded == []
    first = [next(stream) for _ in BENCHMARKS["loveda"].classes]
    assert decoded == ["a.png"]
    assert {sample.image for sample in first} == {"img_dir/val/a.png"}
    assert len(list(stream)) == len(first)
    assert decoded == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("missing", "has no label ann_dir/val/b.png"),
        ("size", "6x4 pixels but its mask is 3x2"),
        ("cut", "b.png cannot be read"),
    ],
)
def test_a_broken_label_is_one_sentence_and_the_others_are_read(tmp_path, spoil, words):
    root = small(tmp_path, "loveda", {"a": grid(1), "b": grid(2), "c": grid(3)})
    label = root / "ann_dir/val/b.png"
    if spoil == "missing":
        label.unlink()
    elif spoil == "size":
        images.write_png(label, np.ones((2, 3), np.uint8))
    else:
        label.write_bytes(label.read_bytes()[:45])
    with pytest.raises(GeoClickError) as failure:
        read("loveda", root)
    assert words in str(failure.value)
    assert str(failure.value).endswith(".")
    left = []
    assert len(read("loveda", root, on_left_out=left.append)) == 14
    assert [(item.item, item.count) for item in left] == [("img_dir/val/b.png", 7)]


def test_a_broken_image_is_one_sentence(tmp_path):
    root = small(tmp_path, "loveda", {"a": grid(1)})
    (root / "img_dir/val/a.png").write_bytes(b"no picture")
    with pytest.raises(GeoClickError, match=r"a\.png cannot be read"):
        read("loveda", root)


@pytest.mark.parametrize("linked", ["img_dir/val/a.png", "ann_dir/val/a.png"])
def test_a_link_out_of_the_root_is_refused(tmp_path, linked):
    root = small(tmp_path / "root", "loveda", {"a": grid(1)})
    outside = tmp_path / "secret.png"
    (root / linked).rename(outside)
    (root / linked).symlink_to(outside)
    with pytest.raises(GeoClickError, match="leads out of"):
        read("loveda", root)


def test_the_folder_of_something_else_is_refused_with_the_fix(tmp_path):
    with pytest.raises(UsageError, match=r"img_dir/val/NAME\.png .*geoclick prepare loveda"):
        read("loveda", tmp_path)
    with pytest.raises(UsageError, match="arrange the files so"):
        read("vdd", tmp_path)
