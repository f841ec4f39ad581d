import json
import shutil

import numpy as np
import pytest
import torch

from geoclick import model_folders, vlms
from geoclick.errors import GeoClickError, UsageError
from geoclick.vlms import loading
from geoclick.vlms.adapter import AdapterRecord, write_record
from tests import tiny
from tests.paths import REPO


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.qwen3_vl_folder(tmp_path_factory.mktemp("vlm"))


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_a_folder_loads_ready_for_generation(folder):
    vlm = vlms.load(str(folder))
    assert vlm.family == "qwen3_vl"
    assert vlm.revision == ""
    assert vlm.record is None
    assert vlm.processor.tokenizer.padding_side == "left"
    assert not vlm.model.training
    expected = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    assert {p.dtype for p in vlm.model.parameters()} == {expected}


def test_an_older_transformers_is_refused(folder, monkeypatch):
    monkeypatch.setattr(loading, "version", lambda package: "5.17.0")
    with pytest.raises(GeoClickError, match=r"needs transformers 5.24 or newer, not 5.17.0; run pip install"):
        vlms.load(str(folder))
    assert f'"transformers>={loading.OLDEST_TRANSFORMERS}",' in (REPO / "pyproject.toml").read_text()


def test_pixel_limits_are_set_and_checked(folder):
    vlm = vlms.load(str(folder), min_pixels=1024, max_pixels=4096)
    assert loading.pixel_limits(vlm.processor) == (1024, 4096)
    with pytest.raises(UsageError, match="min_pixels 5000 exceeds max_pixels 4096"):
        vlms.load(str(folder), min_pixels=5000, max_pixels=4096)


@pytest.mark.parametrize("family", tiny.FOLDERS)
@pytest.mark.parametrize("size", [(64, 64), (57, 200), (300, 31), (1000, 1000)])
def test_resized_size_is_that_of_the_processor(family, size, tmp_path):
    processor = loading.load_processor(tiny.FOLDERS[family](tmp_path), min_pixels=4096, max_pixels=40000)
    image = np.zeros((*size, 3), np.uint8)
    grid = processor.image_processor(images=[image], return_tensors="pt")["image_grid_thw"][0].tolist()
    patch = processor.image_processor.patch_size
    assert vlms.resized_size(processor, size) == (grid[1] * patch, grid[2] * patch)


def test_a_narrow_image_is_refused(folder):
    with pytest.raises(GeoClickError, match="cut it into pieces"):
        vlms.resized_size(loading.load_processor(folder), (2, 1000))


def test_fingerprint_follows_the_weights(folder, copy, tmp_path):
    assert loading.fingerprint(folder) == loading.fingerprint(copy)
    other = tiny.qwen3_vl_folder(tmp_path / "other", seed=1)
    assert loading.fingerprint(folder) != loading.fingerprint(other)


def message(name, **options):
    with pytest.raises(GeoClickError) as caught:
        vlms.load(str(name), **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_a_missing_folder(tmp_path):
    assert "does not exist" in message(tmp_path / "none")
    assert "does not exist" in message("nowhere")


def test_a_hub_id_without_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "check the name and the network" in message("Qwen/No-Such-Model")


def test_a_folder_of_another_architecture(copy):
    (copy / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "of type 'bert'" in message(copy)


def test_a_folder_without_or_with_a_broken_config(copy):
    (copy / "config.json").write_text("{")
    assert "cannot be read as JSON" in message(copy)
    (copy / "config.json").unlink()
    assert "holds no config.json" in message(copy)


def test_truncated_weights(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "corrupted or cut short" in message(copy)


def test_pickled_weights_are_not_read(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "no .safetensors" in message(copy)


@pytest.mark.parametrize("change", [{"hidden_size": 64}, {"num_hidden_layers": 3}, {"num_hidden_layers": 1}])
def test_weights_that_do_not_match_the_config(copy, change):
    config = json.loads((copy / "config.json").read_text())
    config["text_config"] |= change
    (copy / "config.json").write_text(json.dumps(config))
    assert "mixes two models or is incomplete" in message(copy)


def test_a_folder_without_a_processor(copy):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    assert "The processor in" in message(copy)


@pytest.mark.parametrize(
    ("base", "recorded", "given", "asked"),
    [
        ("maker/base", "abc", None, "abc"),
        ("maker/base", "abc", "main", "main"),
        ("maker/base", "", None, None),
        ("maker/other", "abc", None, None),
    ],
)
def test_the_base_of_an_adapter_has_the_revision_of_its_record(
    base, recorded, given, asked, tmp_path, monkeypatch
):
    empty = dict.fromkeys(("family", "fingerprint", "targets"), "")
    record = AdapterRecord(
        base=base, revision=recorded, answer_format="json", min_pixels=1, max_pixels=2, **empty
    )
    write_record(tmp_path, record)
    revisions = []

    def locate(name, patterns, instead, revision=None):
        revisions.append(revision)
        raise GeoClickError("no network")

    monkeypatch.setattr(model_folders, "locate", locate)
    with pytest.raises(GeoClickError, match="no network"):
        vlms.load("maker/base", adapter=tmp_path, revision=given)
    assert revisions == [asked]
