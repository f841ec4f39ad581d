import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick.errors import GeoClickError
from geoclick.train.publishing import evaluations
from tests.train.adapters import evaluated
from tests.train.provenances import ADAPTER, MERGED


def test_scores_are_those_of_the_folder_without_paths(tmp_path):
    evaluation = evaluations.read(evaluated(tmp_path / "e", adapter_sha256="cc", decode="replay"), ADAPTER)
    assert evaluation.dataset == "folder: scenes"
    assert (evaluation.scores["miou"], evaluation.scores["pr@0.9"]) == (0.75, pytest.approx(0.1))
    assert evaluation.interval == (0.7, 0.8)
    assert evaluation.by_task == {"referring": (4, 0.75)}
    assert evaluation.protocol == {"n": 4, "mode": "native", "decode": "replay"}


def test_scores_of_another_model_are_refused(tmp_path):
    own = evaluated(tmp_path / "adapter", adapter="runs/lora", adapter_sha256="cc", vlm_fingerprint="aa")
    merged = evaluated(tmp_path / "merged", adapter=None, adapter_sha256=None, vlm_fingerprint="bb")
    stored = evaluated(tmp_path / "oracle", predictor="oracle")
    on_top = evaluated(tmp_path / "on_top", adapter="runs/x", adapter_sha256="dd", vlm_fingerprint="bb")
    evaluations.read(own, ADAPTER)
    evaluations.read(merged, MERGED)
    for folder, provenance in (
        (merged, ADAPTER),
        (stored, ADAPTER),
        (on_top, ADAPTER),
        (own, MERGED),
        (stored, MERGED),
        (on_top, MERGED),
    ):
        with pytest.raises(GeoClickError, match="belong to another model"):
            evaluations.read(folder, provenance)


def test_scores_of_the_adapter_are_those_of_a_merged_model_with_equal_answers(tmp_path):
    own = evaluated(tmp_path / "adapter", adapter="runs/lora", adapter_sha256="cc", vlm_fingerprint="aa")
    other = evaluated(tmp_path / "other", adapter="runs/x", adapter_sha256="dd", vlm_fingerprint="aa")
    record = dataclasses.replace(MERGED.merged, check={"questions": 24, "same_answers": 24})
    merged = dataclasses.replace(MERGED, merged=record)
    assert evaluations.read(own, merged).scores["miou"] == 0.75
    with pytest.raises(GeoClickError, match="belong to another model"):
        evaluations.read(other, merged)


def test_a_folder_without_scores_is_refused(tmp_path):
    with pytest.raises(GeoClickError, match="holds no metrics"):
        evaluations.read(tmp_path, ADAPTER)


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), float("inf"), "0.5", None, True, [0.5]])
def test_a_score_outside_0_to_1_is_refused(tmp_path, value):
    folder = evaluated(tmp_path / "e", adapter_sha256="cc")
    content = json.loads((folder / "metrics.json").read_text())
    content["scores"]["oiou"] = value
    (folder / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(GeoClickError, match="is not from 'geoclick evaluate'"):
        evaluations.read(folder, ADAPTER)


@given(
    st.recursive(
        st.none() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["scores", "protocol", "by_task", "miou", "root"]), inner)
        ),
        max_leaves=10,
    )
)
def test_other_json_is_refused_in_one_sentence(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "metrics.json").write_text(json.dumps(value))
    with pytest.raises(GeoClickError, match="is not from 'geoclick evaluate'") as caught:
        evaluations.read(folder, ADAPTER)
    assert "\n" not in str(caught.value)
