import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick.errors import GeoClickError
from geoclick.train.publishing import evaluations
from tests.train.adapters import evaluated
from tests.train.provenances import ADAPTER, MERGED


def test_the_figures_are_those_of_the_folder_without_the_way_to_the_data(tmp_path):
    found = evaluations.read(evaluated(tmp_path / "e", adapter_sha256="cc", decode="replay"), ADAPTER)
    assert found.dataset == "folder: scenes"
    assert (found.scores["miou"], found.scores["pr@0.9"]) == (0.75, pytest.approx(0.1))
    assert found.interval == (0.7, 0.8)
    assert found.by_task == {"referring": (4, 0.75)}
    assert found.protocol == {"n": 4, "mode": "native", "decode": "replay"}


def test_figures_of_another_model_are_refused(tmp_path):
    own = evaluated(tmp_path / "adapter", adapter="runs/lora", adapter_sha256="cc", vlm_fingerprint="aa")
    whole = evaluated(tmp_path / "merged", adapter=None, adapter_sha256=None, vlm_fingerprint="bb")
    stored = evaluated(tmp_path / "oracle", predictor="oracle")
    on_top = evaluated(tmp_path / "on_top", adapter="runs/x", adapter_sha256="dd", vlm_fingerprint="bb")
    evaluations.read(own, ADAPTER)
    evaluations.read(whole, MERGED)
    for folder, story in (
        (whole, ADAPTER),
        (stored, ADAPTER),
        (on_top, ADAPTER),
        (own, MERGED),
        (stored, MERGED),
        (on_top, MERGED),
    ):
        with pytest.raises(GeoClickError, match="are not this model's"):
            evaluations.read(folder, story)


def test_a_folder_without_figures_is_refused(tmp_path):
    with pytest.raises(GeoClickError, match="holds no metrics"):
        evaluations.read(tmp_path, ADAPTER)


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), float("inf"), "0.5", None, True, [0.5]])
def test_a_score_that_is_no_share_is_refused(tmp_path, value):
    folder = evaluated(tmp_path / "e", adapter_sha256="cc")
    content = json.loads((folder / "metrics.json").read_text())
    content["scores"]["oiou"] = value
    (folder / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(GeoClickError, match="is none of 'geoclick evaluate'"):
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
def test_any_json_is_refused_in_one_sentence(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "metrics.json").write_text(json.dumps(value))
    with pytest.raises(GeoClickError, match="is none of 'geoclick evaluate'") as caught:
        evaluations.read(folder, ADAPTER)
    assert "\n" not in str(caught.value)
