import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoclick.errors import GeoClickError
from geoclick.vlms import adapter, merged

ADAPTER = adapter.AdapterRecord(
    base="embedded",
    revision="",
    family="qwen3_vl",
    fingerprint="aa",
    answer_format="compact",
    min_pixels=64,
    max_pixels=4096,
    targets="x",
    config={"lora_r": 4},
)
RECORD = merged.MergedRecord(
    fingerprint="bb", dtype="float32", adapter=ADAPTER, adapter_sha256="cc", data={"samples": 3}
)


def changed(folder, **values):
    path = folder / adapter.RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def folder(tmp_path):
    merged.write_record(tmp_path, RECORD)
    return tmp_path


def test_a_record_is_read_as_it_was_written(folder):
    found = merged.read_record(folder)
    assert found == RECORD
    assert (found.answer_format, found.min_pixels, found.max_pixels) == ("compact", 64, 4096)


def test_a_model_without_a_record_is_any_other_model(tmp_path):
    assert merged.read_record(tmp_path) is None


def test_adapters_and_models_are_distinguished(folder, tmp_path):
    with pytest.raises(GeoClickError, match="merged model, not an adapter; give it by --vlm"):
        adapter.read_record(folder)
    adapter.write_record(tmp_path, ADAPTER)
    with pytest.raises(GeoClickError, match="is an adapter, not a model; give it by --adapter"):
        merged.read_record(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"surprise": 1},
        {"adapter": {}},
        {"adapter": None},
        {"adapter": dataclasses.asdict(ADAPTER) | {"answer_format": "prose"}},
        {"adapter": dataclasses.asdict(ADAPTER) | {"answer_format": []}},
        {"adapter": dataclasses.asdict(ADAPTER) | {"max_pixels": "many"}},
        {"adapter": dataclasses.asdict(ADAPTER) | {"min_pixels": True}},
        {"adapter": dataclasses.asdict(ADAPTER) | {"min_pixels": -1}},
    ],
)
def test_a_broken_record_is_refused(folder, values):
    changed(folder, **values)
    with pytest.raises(GeoClickError, match="is broken"):
        merged.read_record(folder)


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_refused_in_one_sentence(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("record")
    (folder / adapter.RECORD).write_text(json.dumps(value))
    with pytest.raises(GeoClickError) as caught:
        merged.read_record(folder)
    assert "\n" not in str(caught.value)


def test_a_record_of_another_schema_is_refused(folder):
    changed(folder, schema_version=2)
    with pytest.raises(GeoClickError, match="schema version 2"):
        merged.read_record(folder)


def test_weights_and_prompts_are_checked_with_the_record():
    merged.check(RECORD, Path(), name="m", fingerprint="bb")
    with pytest.raises(GeoClickError, match="The weights of m are not"):
        merged.check(RECORD, Path(), name="m", fingerprint="zz")
    old = dataclasses.replace(RECORD, adapter=dataclasses.replace(ADAPTER, prompt_version="v0"))
    with pytest.raises(GeoClickError, match="m was trained with prompts v0"):
        merged.check(old, Path(), name="m", fingerprint="bb")
