"""Bad input of `geoclick predict --classes`: one sentence that names the fix, and exit code 1 or 2."""

import json
import shutil

import numpy as np
import pytest
import torch

from geoclick import images
from geoclick.devices import BatchSize
from geoclick.inference import predict
from geoclick.inference.contrastive import dense, region_crops, sam3
from geoclick.segmenters.sam import SamSegmenter
from tests import tiny_clips, tiny_sam3

CLASSES = "background; building; road; water"


class Code:
    """What a hostile file holds: unpickling it runs a command."""

    def __reduce__(self):
        return print, ("the code of a checkpoint ran",)


@pytest.fixture
def scene(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    images.write_png(tmp_path / "scene.png", values)
    return tmp_path / "scene.png"


@pytest.fixture
def run(scene, tmp_path, capfd):
    """Runs predict on an image and returns its exit code, the only error, and all lines."""

    def call(*words, image=scene, listed=CLASSES):
        given = (image, "--classes", listed, "--output", tmp_path / "out", *words)
        code = predict.main([*map(str, given)])
        captured = capfd.readouterr()
        lines = (captured.out + captured.err).splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert "Traceback" not in captured.err
        assert "the code of a checkpoint ran" not in lines
        assert len(errors) == (code != 0)
        return code, errors[-1] if errors else "", lines

    return call


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "is an empty class list; name classes"),
        ("a.txt", b"\n \n", "is an empty class list; name classes"),
        ("a.txt", b"road\nRoad\n", "has the name 'Road' twice; remove one of them"),
        ("a.txt", b"road, street\nway, street\n", "has the name 'street' twice"),
        ("a.txt", b"road: redish\nwater\n", "has an unknown color 'redish' for 'road'; write #rrggbb"),
        ("a.txt", b"road: 1 2 300\nwater\n", "has an unknown color '1 2 300'"),
        ("a.txt", b"road: red\nwater: red\n", "has one color for 'road' and 'water'; change one of them"),
        ("a.txt", b"background\n", "has no class besides the background"),
        ("a.txt", b"\xff\xfe\x00r", "is no text in UTF-8"),
        ("a.txt", "\n".join(f"class {n}" for n in range(256)).encode(), "has 256 classes, but an index mask"),
        ("a.json", b"{", 'must hold {"classes": {name: [r, g, b]}}'),
        ("a.json", b'{"classes": {}}', "is an empty class list"),
        ("a.json", b'{"classes": {"road": [1, 2]}}', "has an unknown color '1 2' for 'road'"),
    ],
)
def test_class_files(run, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    code, error, _ = run(listed=tmp_path / name)
    assert code in (1, 2)
    assert message in error
    assert not (tmp_path / "out").exists()


CONTENTS = {
    "another architecture": {"layer.weight": torch.zeros(2, 3)},
    "code": {"layer.weight": torch.zeros(2, 3), "code": Code()},
    "no weights": {"epoch": 3},
    "damaged": None,
}
MESSAGES = {
    "code": "holds code or objects besides weights, which are not loaded",
    "no weights": "holds no named weights",
    "damaged": "is damaged or no PyTorch weight file; download",
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize(
    ("words", "other"),
    [
        (("--clip", "ViT-B-32", "--clip-checkpoint"), "does not fit ViT-B-32"),
        (("--segmenter", "sam_vit_b", "--segmenter-checkpoint"), "does not fit sam_vit_b"),
        (("--method", "maskclip", "--upsample"), "is not SegEarth-OV's feature upsampler"),
    ],
)
def test_checkpoints_of_another_architecture_or_with_code(run, tmp_path, words, other, content):
    path = tmp_path / "weights.pt"
    if CONTENTS[content] is None:
        path.write_bytes(b"PK\x03\x04 cut short")
    else:
        torch.save(CONTENTS[content], path)
    code, error, _ = run(*words, path)
    assert code == 1
    assert str(path) in error
    assert MESSAGES.get(content, other) in error
    assert not (tmp_path / "out").exists()


def test_folders_of_another_architecture_or_with_code(run, tmp_path):
    other = tiny_sam3.folder(tmp_path / "sam3")
    code, error, _ = run("--method", "clip", "--clip", other)
    assert (code, "holds a model of type sam3, not a CLIP or SigLIP; give one of these" in error) == (1, True)
    folder = tiny_clips.folder(tmp_path / "clip", tiny_clips.clip())
    code, error, _ = run("--method", "sam3", "--sam3", folder)
    assert (code, "holds a model of type clip, not a SAM 3" in error) == (1, True)
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        content["auto_map"] = {"AutoModel": "evil.Model", "AutoTokenizer": ["evil.Model", None]}
        (folder / name).write_text(json.dumps(content))
    (folder / "evil.py").write_text("print('the code of a checkpoint ran')\nclass Model: pass\n")
    assert run("--method", "clip", "--clip", folder)[0] == 0
    torch.save({"x": Code()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    code, error, _ = run("--method", "clip", "--clip", folder)
    assert (code, "cannot be loaded" in error) == (1, True)


@pytest.mark.parametrize("words", [("--method", "clip"), ("--points-per-side", "2")])
@pytest.mark.parametrize("size", [(8, 30), (30, 8), (1, 1)])
def test_an_image_smaller_than_a_patch(run, tmp_path, words, size):
    images.write_png(tmp_path / "small.png", np.zeros((*size, 3), np.uint8))
    code, error, _ = run(*words, image=tmp_path / "small.png")
    assert code == 1
    assert f"An image of {size[1]}x{size[0]} pixels is smaller than a patch of 16x16; give a larger" in error


def test_a_grid_of_zero(run, tmp_path):
    code, error, _ = run("--points-per-side", 0)
    assert (code, error) == (2, "error: --points-per-side must be 1 or more, not 0.")
    (tmp_path / "a.yaml").write_text("points_per_side: 0\n")
    code, error, _ = run("--config", tmp_path / "a.yaml")
    assert (code, "must be 1 or more, not 0" in error) == (2, True)


@pytest.fixture
def memory(monkeypatch):
    """Limits what a function does at once: with more than `most` items, the length of `items`, memory is too small."""

    def limit(owner, name, most, items):
        original = getattr(owner, name)

        def limited(*arguments, **named):
            if items(*arguments, **named) > most:
                raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, limited)

    return limit


def test_memory_for_half_a_batch_of_windows_gives_the_same_map(run, memory, monkeypatch, tmp_path):
    monkeypatch.setattr(dense, "_default_batch", lambda device: BatchSize(8, "windows of the CLIP model"))
    assert run("--method", "clip")[0] == 0
    before = (tmp_path / "out/scene.mask.png").read_bytes()
    shutil.rmtree(tmp_path / "out")
    memory(dense, "dense_features", 3, lambda model, pixels, method: len(pixels))
    batch = BatchSize(8, "windows of the CLIP model")
    monkeypatch.setattr(dense, "_default_batch", lambda device: batch)
    code, _, lines = run("--method", "clip")
    assert code == 0
    said = [line for line in lines if "The memory of the GPU is too small for" in line]
    assert said == [
        f"The memory of the GPU is too small for {n} windows of the CLIP model at once; continuing with {n // 2}."
        for n in (8, 4)
    ]
    assert (tmp_path / "out/scene.mask.png").read_bytes() == before


def test_memory_that_is_too_small_for_one(run, memory, monkeypatch, tmp_path):
    folder = tiny_sam3.folder(tmp_path / "sam3")
    for owner, name, items, words, what in (
        (
            dense,
            "dense_features",
            lambda m, pixels, method: 1,
            ("--method", "clip"),
            "windows of the CLIP model",
        ),
        (sam3.Sam3, "_outputs", lambda *a: 1, ("--method", "sam3", "--sam3", folder), "prompts of SAM 3"),
        (
            region_crops,
            "crop",
            lambda *a, **n: 1,
            ("--points-per-side", 4, "--select", "crop"),
            "crops of the CLIP",
        ),
    ):
        with monkeypatch.context() as patch:
            batch = BatchSize(1, what)
            for module, attribute in ((dense, "_default_batch"), (sam3, "_batch"), (region_crops, "_batch")):
                patch.setattr(module, attribute, lambda device, batch=batch: batch)
            original = getattr(owner, name)
            memory(owner, name, 0, items)
            code, error, _ = run(*words, "--output", tmp_path / what.replace(" ", "-"))
            patch.setattr(owner, name, original)
            setattr(owner, name, original)
        assert code == 1
        assert f"The memory of the GPU is too small for one of the {what}" in error
        assert "use a smaller model or --device cpu." in error


def test_memory_that_is_too_small_for_an_image_of_the_segmenter(run, memory):
    memory(SamSegmenter, "embed", 0, lambda *arguments, **named: 1)
    code, error, _ = run("--points-per-side", 2)
    assert code == 1
    assert "The memory of the GPU is too small for an image of 80x64 pixels; use a smaller model" in error
