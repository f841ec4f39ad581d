"""`geoclick predict --classes` on the embedded models."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from geoclick import images
from geoclick.inference import predict
from geoclick.inference.contrastive import classes, sam3
from geoclick.scenes.copies.semantic import paint
from tests import tiny_clips, tiny_sam3

CLASSES = "background; building, roof; road; water: blue; field; tree, forest"


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A picture of a pond between trees."""
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    images.write_png(path, np.ascontiguousarray(np.asarray(paint("loveda", 0, 1)[0])[:512:2, :512:2]))
    return path


@pytest.fixture
def run(scene, tmp_path, capsys):
    """Runs predict and returns its exit code, its lines and the last of them, the error."""

    def call(*words, image=scene, more=()):
        code = predict.main([*map(str, (image, *more, "--output", tmp_path / "out", *words))])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        lines = (captured.out + captured.err).strip().splitlines()
        return code, lines, lines[-1]

    return call


def test_index_mask_overlay_and_record(run, scene, tmp_path):
    words = ("--classes", CLASSES, "--points-per-side", 8)
    code, lines, _ = run(*words)
    assert code == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "config.yaml",
        "scene.json",
        "scene.mask.png",
        "scene.overlay.png",
    ]
    record = json.loads((out / "scene.json").read_text())
    with Image.open(out / "scene.mask.png") as image:
        assert image.mode == "P"
        mask = np.asarray(image)
        palette = np.array(image.getpalette()).reshape(-1, 3)
    assert mask.shape == (256, 256) == tuple(record["size"])
    rows = record["classes"]
    assert [row["name"] for row in rows] == ["background", "building", "road", "water", "field", "tree"]
    assert rows[1]["synonyms"] == ["roof"]
    assert rows[3]["color"] == [0, 0, 255]
    for row in rows:
        assert row["share"] == pytest.approx((mask == row["index"]).mean(), abs=1e-6)
        assert palette[row["index"]].tolist() == row["color"]
        assert (row["confidence"] is None) == (row["share"] == 0)
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-5)
    assert rows[3]["share"] > 0.1
    assert 0 < record["coverage"] <= 1
    expected = {
        "query": CLASSES,
        "image": str(scene),
        "method": "contrastive",
        "features": "clearclip",
        "class_bias": 0.0,
        "templates": "aerial",
        "select": "vote",
        "points_per_side": 8,
        "predicted_iou": 0.2,
        "stability": 0.8,
        "overlaps": "small-on-top",
        "uncovered": "dense",
        "clip": "embedded",
        "segmenter": "embedded",
        "bands": [],
        "mask": "scene.mask.png",
    }
    assert record | expected == record
    assert len(record["segmenter_sha256"]) == 64
    assert len(record["clip_fingerprint"]) > 64
    assert any(f"{record['proposals']} proposals cover" in line for line in lines)
    # The same list again replaces its own files, another one does not.
    before = (out / "scene.mask.png").read_bytes()
    assert run(*words)[0] == 0
    assert (out / "scene.mask.png").read_bytes() == before
    code, _, error = run("--classes", "building; road")
    assert (code, "answers another text" in error) == (2, True)
    assert run("--text", "a road")[0] == 2
    (out / "scene.json").unlink()
    assert run(*words)[0] == 0


def test_dense_method_with_a_class_file_threshold_and_tiles(run, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("background: white\nwater, pond: blue\n")
    words = ("--classes", path, "--method", "maskclip", "--threshold", 0.6, "--tile", 150, "--overlap", 30)
    assert run(*words)[0] == 0
    record = json.loads((tmp_path / "out/scene.json").read_text())
    assert (record["method"], record["features"], record["threshold"]) == ("maskclip", "maskclip", 0.6)
    assert (record["coverage"], record["segmenter"], record["select"]) == (None, None, "dense")
    assert (record["tile"], record["overlap"]) == (150, 30)
    assert [row["color"] for row in record["classes"]] == [[255, 255, 255], [0, 0, 255]]
    assert "points_per_side" not in record


def test_a_single_class_gets_a_background(run, tmp_path):
    code, lines, _ = run("--classes", "water", "--method", "clip")
    assert code == 0
    assert "The class `background` is added to 'water', since --classes names no other." in lines
    record = json.loads((tmp_path / "out/scene.json").read_text())
    assert [row["name"] for row in record["classes"]] == ["background", "water"]


def test_an_image_that_fails_does_not_lose_the_others(run, scene, tmp_path):
    small = tmp_path / "small.png"
    images.write_png(small, np.zeros((8, 30, 3), np.uint8))
    code, lines, error = run("--classes", "water; road", "--method", "clip", more=[small])
    assert code == 1
    assert "smaller than a patch of 16x16" in error
    assert str(small) in error
    assert sorted(path.name for path in (tmp_path / "out").glob("*.json")) == ["scene.json"]
    assert any(line.startswith(f"{small}: failed") for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classes", "a; b", "--text", "a"], "--text and --classes exclude each other"),
        (["--text", "a", "--threshold", "0.5"], "--threshold goes with --classes; remove it"),
        (["--text", "a", "--method", "clip"], "--method goes with --classes"),
        (["--classes", "a; b", "--adapter", "x"], "--adapter goes with --text"),
        (["--classes", " "], "--classes is empty"),
        (["--classes", "road; Road"], "has the name 'Road' twice"),
        (["--classes", "road: reddish; tree"], "has an unknown color 'reddish'"),
        (["--classes", "background"], "no class besides the background"),
        (["--classes", "a; b", "--method", "sam4"], "--method: invalid choice: 'sam4'"),
        (["--classes", "a; b", "--method", "sam3"], "--method sam3 needs --sam3, a folder or a hub id"),
        (["--classes", "a; b", "--sam3", "x"], "--sam3 goes with --method sam3"),
        (
            ["--classes", "a; b", "--method", "sam3", "--sam3", "x", "--clip", "y"],
            "--clip goes with a method of",
        ),
        (
            ["--classes", "a; b", "--method", "clip", "--segmenter", "sam_vit_b"],
            "goes with --method contrastive",
        ),
        (["--classes", "a; b", "--batch-size", "2"], "--batch-size goes with --text"),
        (["--classes", "a; b", "--threshold", "0.5"], "`background`, which --classes lacks"),
        (["--classes", "a", "--threshold", "2"], "--threshold must be from 0 to 1, not 2.0"),
        (["--classes", "a; b", "--threshold", "nan"], "--threshold must be from 0 to 1, not nan"),
        (["--classes", "a; b", "--points-per-side", "0"], "--points-per-side must be 1 or more, not 0"),
        (["--classes", "a; b", "--stability-score", "1.5"], "--stability-score must be from 0 to 1, not 1.5"),
        (["--classes", "a; b", "--tile", "64"], "--overlap must be below --tile 64"),
        (["--classes", "a; b", "--overlap", "1024"], "below the tile of 1024, not 1024"),
        (["--classes", "a; b", "--clip", "ViT-B-32"], "needs --clip-checkpoint"),
        (["--classes", "a; b", "--method", "gem", "--features", "clip"], "has its own features"),
    ],
)
def test_wrong_usage_is_one_sentence(run, tmp_path, words, message):
    code, _, error = run(*words)
    assert code == 2
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classes", "no.txt"], "Class file no.txt does not exist"),
        (["--classes", "a; b", "--upsample", "no.ckpt"], "no.ckpt"),
        (["--classes", "a; b", "--clip", "no/such/folder"], "Model folder no/such/folder does not exist"),
        (["--classes", "a; b", "--clip", "ViT-B-32", "--clip-checkpoint", "no.pt"], "no.pt"),
        (["--classes", "a; b", "--segmenter", "sam_vit_b", "--segmenter-checkpoint", "no.pth"], "no.pth"),
    ],
)
def test_missing_files_are_one_sentence(run, tmp_path, words, message):
    code, _, error = run(*words)
    assert code == 1
    assert message in error
    assert not (tmp_path / "out").exists()


def test_the_upsampler_must_fit_the_clip(run, tmp_path):
    from geoclick.clips.loading import load_clip
    from geoclick.inference.contrastive.upsampler import JointBilateralUpsampler

    dim = load_clip().model.config.projection_dim
    for name, size in (("fits", dim), ("other", dim + 8)):
        torch.manual_seed(0)
        torch.save(JointBilateralUpsampler(size).state_dict(), tmp_path / f"{name}.ckpt")
    image = tmp_path / "scene.png"
    images.write_png(image, np.full((32, 128, 3), 90, np.uint8))
    words = ("--classes", "water; road", "--method", "maskclip", "--upsample")
    code, _, error = run(*words, tmp_path / "other.ckpt", image=image)
    assert code == 1
    assert f"other.ckpt upsamples features of size {dim + 8}, but those of the CLIP have {dim};" in error
    assert run(*words, tmp_path / "fits.ckpt", image=image)[0] == 0
    record = json.loads((tmp_path / "out/scene.json").read_text())
    assert record["upsample"] == str(tmp_path / "fits.ckpt")
    assert len(record["upsample_sha256"]) == 64


@pytest.mark.parametrize("select", ["crop", "crop-blurred", "crop-mean"])
def test_proposals_take_the_class_of_their_crops(run, tmp_path, select):
    assert run("--classes", CLASSES, "--points-per-side", 6, "--select", select)[0] == 0
    record = json.loads((tmp_path / "out/scene.json").read_text())
    assert (record["select"], record["method"]) == (select, "contrastive")
    assert record["proposals"] > 3
    code, _, error = run("--classes", CLASSES, "--method", "clip", "--select", select)
    assert (code, "select goes with the method contrastive, not 'clip'; remove it" in error) == (2, True)


def test_a_map_of_sam3(run, scene, tmp_path):
    folder = tiny_sam3.folder(tmp_path / "sam3")
    code, _, _ = run("--classes", "background; building; x; water", "--method", "sam3", "--sam3", folder)
    assert code == 0
    record = json.loads((tmp_path / "out/scene.json").read_text())
    with Image.open(tmp_path / "out/scene.mask.png") as image:
        mask = np.asarray(image)
    model = sam3.load(str(folder), "cpu")
    listed = classes.parse("background; building; x; water")
    labels, confidence = model.label_map(np.asarray(Image.open(scene)), listed, 0.5)
    np.testing.assert_array_equal(mask, labels)
    assert len(np.unique(labels)) > 2
    for row in record["classes"]:
        own = labels == row["index"]
        if own.any():
            assert row["confidence"] == pytest.approx(confidence[own].mean(), abs=1e-5)
    expected = {"method": "sam3", "sam3": str(folder), "sam3_sha256": model.sha256, "threshold": 0.5}
    assert record | expected == record
    assert (record["clip"], record["segmenter"], record["coverage"]) == (None, None, None)
    # Without a background there is no threshold; a second run replaces the files.
    words = ("--classes", "building; x; water", "--method", "sam3", "--sam3", folder)
    assert run(*words, "--output", tmp_path / "other")[0] == 0
    assert run(*words, "--output", tmp_path / "other")[0] == 0
    assert json.loads((tmp_path / "other/scene.json").read_text())["threshold"] == 0


def test_a_folder_of_another_model_for_sam3_is_one_sentence(run, tmp_path):
    folder = tiny_clips.folder(tmp_path / "clip", tiny_clips.clip())
    code, _, error = run("--classes", "a; b", "--method", "sam3", "--sam3", folder)
    assert (code, error) == (
        1,
        f"error: {folder} holds a model of type clip, not a SAM 3; give an existing folder, or a hub id such as "
        "facebook/sam3.",
    )
