import dataclasses
import json

import pytest
from safetensors.torch import load_file, save_file

from geoclick import store as stores
from geoclick.errors import GeoClickError
from geoclick.train.publishing import card_text, provenance
from geoclick.vlms import adapter, merged
from tests import tiny
from tests.train.adapters import random_adapter, with_record


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.click_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def tuned(store, tmp_path, tmp_path_factory):
    base = tiny.qwen3_vl_folder(tmp_path_factory.mktemp("base"))
    return random_adapter(tmp_path / "lora", base, clicks=store[0], root=store[1])


def test_provenance_of_an_adapter(tuned):
    of_adapter = provenance.read(tuned)
    assert of_adapter == provenance.read_adapter(tuned)
    assert of_adapter.merged is None
    assert of_adapter.data["rows"] == 8
    assert of_adapter.training == {
        "rows": 8,
        "rows_left_out": {"below min_iou": 2},
        "steps": 3,
        "seconds": 1.5,
    }
    weights = load_file(tuned / adapter.WEIGHTS)
    save_file({name: value + 1 for name, value in weights.items()}, tuned / adapter.WEIGHTS)
    assert provenance.read_adapter(tuned).adapter_sha256 != of_adapter.adapter_sha256


def test_a_missing_store_gives_no_data_and_a_moved_one_can_be_named(tuned, store, tmp_path):
    with_record(tuned, config={"clicks": str(tmp_path / "gone")})
    assert provenance.read_adapter(tuned).data == {}
    assert provenance.read_adapter(tuned, str(store[0])).data["rows"] == 8
    with pytest.raises(GeoClickError, match="has no manifest"):
        provenance.read_adapter(tuned, str(tmp_path))


def test_several_stores_are_described_by_what_they_share(tuned, tmp_path):
    folders = [str(tmp_path / name) for name in ("one", "two")]
    for folder, samples, policy in zip(folders, (5, 3), ("center", "robust"), strict=True):
        stores.write_manifest(folder, {"samples": samples, "policy": policy, "split": "train"})
    with_record(tuned, config={"clicks": folders, "root": "data", "chats": ["/home/user/talk.jsonl"]})
    found = provenance.read_adapter(tuned)
    assert found.data == {"schema_version": stores.SCHEMA_VERSION, "samples": 8, "split": "train"}
    sources = [
        {"name": "one", "rows": 5, "rows_an_epoch": 4},
        {"name": "/home/user/talk.jsonl", "rows": 9, "rows_an_epoch": 18},
    ]
    training = found.training | {"sources": sources}
    text = card_text.training_data(dataclasses.replace(found, training=training))
    assert "| click store | one, two |" in text
    assert "| chats | talk.jsonl |" in text
    assert "| rows of talk.jsonl | 9, 18 in an epoch |" in text
    assert "/home" not in text


def test_training_metrics_are_optional(tuned):
    (tuned / "metrics.json").unlink()
    assert provenance.read_adapter(tuned).training == {}
    for content, expected in (("[1]", {}), ('{"loss": []}', {})):
        (tuned / "metrics.json").write_text(content)
        assert provenance.read_adapter(tuned).training == expected
    (tuned / "metrics.json").write_text("{")
    with pytest.raises(GeoClickError, match="not valid JSON"):
        provenance.read_adapter(tuned)


def test_a_merged_model_has_the_provenance_of_its_adapter(tuned, store, tmp_path):
    of_adapter = provenance.read_adapter(tuned)
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with pytest.raises(GeoClickError, match="holds no geoclick"):
        provenance.read(folder)
    record = merged.MergedRecord(
        fingerprint="bb",
        dtype="float32",
        adapter=of_adapter.record,
        adapter_sha256=of_adapter.adapter_sha256,
        data={"samples": 3},
        training={"rows": 2},
    )
    merged.write_record(folder, record)
    model = provenance.read(folder)
    assert (model.record, model.adapter_sha256) == (
        of_adapter.record,
        of_adapter.adapter_sha256,
    )
    assert (model.data, model.training, model.merged) == ({"samples": 3}, {"rows": 2}, record)
    assert provenance.read(folder, str(store[0])).data["rows"] == 8


def test_folders_without_an_adapter_are_refused(tuned, tmp_path):
    with pytest.raises(GeoClickError, match="does not exist"):
        provenance.read_adapter(tmp_path / "nowhere")
    (tuned / adapter.WEIGHTS).unlink()
    with pytest.raises(GeoClickError, match="finish its 'geoclick train sft'"):
        provenance.read_adapter(tuned)
    (tuned / adapter.RECORD).write_text(json.dumps({"kind": merged.KIND}))
    with pytest.raises(GeoClickError, match="merged model, not an adapter"):
        provenance.read_adapter(tuned)
