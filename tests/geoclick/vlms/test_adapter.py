import dataclasses
import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from geoclick import vlms
from geoclick.errors import GeoClickError, UsageError
from geoclick.vlms import adapter, families, loading
from tests import tiny

IDS = torch.tensor([[8, 9, 10, 11]])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.qwen3_vl_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """An adapter folder with random, non-zero LoRA weights, and the logits of its model."""
    folder = tmp_path_factory.mktemp("adapter")
    vlm = vlms.load(str(base), device="cpu")
    model = get_peft_model(vlm.model, LoraConfig(r=4, target_modules=families.LORA_TARGETS))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    limits = loading.pixel_limits(vlm.processor)
    record = adapter.AdapterRecord(
        base=str(base),
        revision="",
        family="qwen3_vl",
        fingerprint=vlm.fingerprint,
        answer_format="compact",
        min_pixels=limits[0],
        max_pixels=limits[1],
        targets=families.LORA_TARGETS,
        versions=adapter.library_versions(),
        config={"lora_r": 4},
    )
    adapter.write_record(folder, record)
    with torch.no_grad():
        return folder, record, model.eval()(IDS).logits


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "copy")


def test_the_adapter_loads_as_it_was_saved(base, trained):
    folder, record, logits = trained
    assert adapter.read_record(folder) == record
    vlm = vlms.load(str(base), adapter=folder, device="cpu")
    assert vlm.record == record
    with torch.no_grad():
        torch.testing.assert_close(vlm.model(IDS).logits, logits)
        plain = vlms.load(str(base), device="cpu").model(IDS).logits
    assert (plain - logits).abs().max() > 1e-3


def test_the_base_is_that_of_the_adapter_unless_one_is_named(base, trained, copy, tmp_path):
    folder, record, logits = trained
    vlm = vlms.load(adapter=folder, device="cpu")
    assert vlm.name == str(base)
    with torch.no_grad():
        torch.testing.assert_close(vlm.model(IDS).logits, logits)
    adapter.write_record(copy, dataclasses.replace(record, base=str(tmp_path / "moved")))
    assert message(None, copy) == (
        f"Model folder {tmp_path}/moved does not exist; give --vlm an existing folder, a hub id such as "
        "Qwen/Qwen3-VL-2B-Instruct, or 'embedded'."
    )
    assert vlms.load(str(base), adapter=copy, device="cpu").name == str(base)


def message(base, folder, kind=GeoClickError, **options):
    with pytest.raises(kind) as caught:
        vlms.load(base and str(base), adapter=folder, device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_adapter_of_other_weights_is_refused(base, trained, tmp_path):
    other = tiny.qwen3_vl_folder(tmp_path / "other", seed=1)
    text = message(other, trained[0])
    assert "not those that it was trained on" in text
    assert f"use --vlm {base}" in text


def test_an_adapter_of_another_family_is_refused(trained, tmp_path):
    assert "family qwen3_vl" in message(tiny.qwen2_vl_folder(tmp_path / "other"), trained[0])


def test_other_pixel_limits_than_in_training_are_refused(base, trained):
    assert "was trained with max_pixels 4096" in message(base, trained[0], UsageError, max_pixels=9999)


@pytest.mark.parametrize("fault", ["missing", "unexpected", "misshapen"])
def test_weights_that_do_not_match_are_refused(base, copy, fault):
    weights = load_file(copy / adapter.WEIGHTS)
    name = next(iter(weights))
    value = weights.pop(name)
    if fault == "unexpected":
        weights |= {name: value, f"{name}.extra": value.clone()}
    if fault == "misshapen":
        weights[name] = value[:1].contiguous()
    save_file(weights, copy / adapter.WEIGHTS)
    assert f"({fault})" in message(base, copy)


def test_corrupted_or_missing_files_are_refused(base, copy):
    weights = copy / adapter.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "cannot be read" in message(base, copy)
    weights.unlink()
    assert "cannot be read" in message(base, copy)
    (copy / "adapter_config.json").unlink()
    assert "cannot be read" in message(base, copy)
    (copy / adapter.RECORD).write_text("[")
    assert "is broken" in message(base, copy)
    (copy / adapter.RECORD).unlink()
    assert "holds no geoclick.json" in message(base, copy)
    assert "does not exist" in message(base, copy / "nowhere")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("schema_version", 99, "schema version 99"), ("prompt_version", "v0", "prompts v0")],
)
def test_a_record_of_another_version_is_refused(base, copy, key, value, expected):
    record = json.loads((copy / adapter.RECORD).read_text())
    (copy / adapter.RECORD).write_text(json.dumps(record | {key: value}))
    assert expected in message(base, copy)


def test_a_record_with_unknown_keys_is_refused(base, copy):
    record = json.loads((copy / adapter.RECORD).read_text())
    (copy / adapter.RECORD).write_text(json.dumps(record | {"surprise": 1}))
    assert "is broken" in message(base, copy)


def test_weights_that_are_not_finite_are_refused(base, copy):
    weights = load_file(copy / adapter.WEIGHTS)
    name = sorted(weights)[0]
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, copy / adapter.WEIGHTS)
    assert f"not finite, such as {name}" in message(base, copy)
