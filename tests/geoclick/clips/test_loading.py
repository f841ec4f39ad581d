import json

import pytest
import torch

from geoclick.clips import loading
from geoclick.errors import GeoClickError
from tests import tiny_clips

MODELS = {"clip": tiny_clips.clip, "siglip": tiny_clips.siglip}


@pytest.mark.parametrize("kind", MODELS)
def test_a_folder_of_transformers_is_loaded(kind, tmp_path):
    model = MODELS[kind]()
    folder = tiny_clips.folder(tmp_path / "model", model)
    clip = loading.load_clip(str(folder), device="cpu")
    assert clip.is_siglip == (kind == "siglip")
    assert (clip.mean, clip.std) == loading.NORMALIZATION[kind]
    assert clip.image_size == 32
    for key, value in model.state_dict().items():
        assert torch.equal(clip.model.state_dict()[key], value)
    assert not any(parameter.requires_grad for parameter in clip.model.parameters())
    assert loading.load_clip(str(folder), device="cpu", dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_the_fingerprint_depends_on_the_weights(tmp_path):
    one = tiny_clips.folder(tmp_path / "one", tiny_clips.clip())
    same = tiny_clips.folder(tmp_path / "same", tiny_clips.clip())
    other = tiny_clips.folder(tmp_path / "other", tiny_clips.clip(seed=1))
    prints = [loading.load_clip(str(path), device="cpu").fingerprint for path in (one, same, other)]
    assert prints[0] == prints[1] != prints[2]


def test_mean_and_std_are_those_of_the_folder(tmp_path):
    folder = tiny_clips.folder(tmp_path / "model", tiny_clips.clip())
    path = next(folder.glob("*processor_config.json"))
    values = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    path.write_text(json.dumps({"image_processor": values}), encoding="utf-8")
    clip = loading.load_clip(str(folder), device="cpu")
    assert (clip.mean, clip.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    path.unlink()
    assert loading.load_clip(str(folder), device="cpu").mean == loading.NORMALIZATION["clip"][0]
    path.write_text(json.dumps(values | {"image_std": 1}), encoding="utf-8")
    with pytest.raises(GeoClickError, match="no mean and std"):
        loading.load_clip(str(folder), device="cpu")


def test_weights_that_are_pickled_are_read_without_code(tmp_path):
    model = tiny_clips.clip()
    folder = tiny_clips.folder(tmp_path / "model", model)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    assert loading.load_clip(str(folder), device="cpu").fingerprint
    torch.save({"x": print}, folder / "pytorch_model.bin")
    with pytest.raises(GeoClickError, match="cannot be loaded"):
        loading.load_clip(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "siglip2"}, "NaFlex"),
        ({"model_type": "bert"}, "type bert, not a CLIP or SigLIP"),
        ({"projection_dim": 48}, "cannot be loaded|do not match"),
    ],
)
def test_a_folder_of_another_model_is_an_error(change, message, tmp_path):
    folder = tiny_clips.folder(tmp_path / "model", tiny_clips.clip())
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    with pytest.raises(GeoClickError, match=message) as error:
        loading.load_clip(str(folder), device="cpu")
    assert "\n" not in str(error.value)


def test_missing_parts_are_errors(tmp_path):
    folder = tiny_clips.folder(tmp_path / "model", tiny_clips.clip())
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(GeoClickError, match=r"tokenizer in .* cannot be loaded"):
        loading.load_clip(str(folder), device="cpu")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(GeoClickError, match=r"The CLIP in .* cannot be loaded"):
        loading.load_clip(str(folder), device="cpu")
    (folder / "config.json").write_text("{")
    with pytest.raises(GeoClickError, match="cannot be read as JSON"):
        loading.load_clip(str(folder), device="cpu")
    (folder / "config.json").unlink()
    with pytest.raises(GeoClickError, match=r"no config.json"):
        loading.load_clip(str(folder), device="cpu")
    with pytest.raises(GeoClickError, match="does not exist"):
        loading.load_clip(str(tmp_path / "nothing"), device="cpu")
    with pytest.raises(GeoClickError, match="neither a folder here nor reachable"):
        loading.load_clip("nobody/no-clip", device="cpu")
