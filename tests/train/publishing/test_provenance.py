import json

import pytest

from geoclick.errors import GeoClickError
from geoclick.train.publishing import provenance
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


def test_an_adapter_tells_of_its_data_and_training(tuned):
    told = provenance.of_folder(tuned)
    assert told == provenance.of_adapter(tuned)
    assert told.merged is None
    assert told.data["rows"] == 8
    assert told.training == {"rows": 8, "rows_left_out": {"below min_iou": 2}, "steps": 3, "seconds": 1.5}
    (tuned / adapter.WEIGHTS).write_bytes(b"other")
    assert provenance.of_adapter(tuned).adapter_sha256 != told.adapter_sha256


def test_a_store_that_is_gone_leaves_no_data_and_one_that_moved_is_named(tuned, store, tmp_path):
    with_record(tuned, config={"clicks": str(tmp_path / "gone")})
    assert provenance.of_adapter(tuned).data == {}
    assert provenance.of_adapter(tuned, str(store[0])).data["rows"] == 8
    with pytest.raises(GeoClickError, match="holds no manifest"):
        provenance.of_adapter(tuned, str(tmp_path))


def test_a_checkpoint_has_no_figures_of_training(tuned):
    (tuned / "metrics.json").unlink()
    assert provenance.of_adapter(tuned).training == {}
    for content, expected in (("[1]", {}), ('{"loss": []}', {})):
        (tuned / "metrics.json").write_text(content)
        assert provenance.of_adapter(tuned).training == expected
    (tuned / "metrics.json").write_text("{")
    with pytest.raises(GeoClickError, match="not valid JSON"):
        provenance.of_adapter(tuned)


def test_a_merged_model_tells_what_its_adapter_did(tuned, store, tmp_path):
    told = provenance.of_adapter(tuned)
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with pytest.raises(GeoClickError, match="holds no geoclick"):
        provenance.of_folder(folder)
    record = merged.MergedRecord(
        fingerprint="bb",
        dtype="float32",
        adapter=told.record,
        adapter_sha256=told.adapter_sha256,
        data={"samples": 3},
        training={"rows": 2},
    )
    merged.write_record(folder, record)
    found = provenance.of_folder(folder)
    assert (found.record, found.adapter_sha256) == (told.record, told.adapter_sha256)
    assert (found.data, found.training, found.merged) == ({"samples": 3}, {"rows": 2}, record)
    assert provenance.of_folder(folder, str(store[0])).data["rows"] == 8


def test_what_is_no_adapter_is_refused(tuned, tmp_path):
    with pytest.raises(GeoClickError, match="does not exist"):
        provenance.of_adapter(tmp_path / "nowhere")
    (tuned / adapter.WEIGHTS).unlink()
    with pytest.raises(GeoClickError, match="finish its 'geoclick train sft'"):
        provenance.of_adapter(tuned)
    (tuned / adapter.RECORD).write_text(json.dumps({"kind": merged.KIND}))
    with pytest.raises(GeoClickError, match="merged model, not an adapter"):
        provenance.of_adapter(tuned)
