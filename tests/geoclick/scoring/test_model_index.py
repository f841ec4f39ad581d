import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from hypothesis import given
from hypothesis import strategies as st

from geoclick.datasets.benchmarks import TITLES
from geoclick.scoring import model_index
from geoclick.scoring.model_index import METRICS, Evaluation

PROTOCOL = {"dataset": "loveda", "root": "/home/somebody/loveda", "split": "val", "n": 12, "seed": 0}


def of_summary(summary):
    return model_index.of_summary(summary, TITLES)


def semantic(**scores):
    """A summary in mode semantic."""
    block = {
        "miou": 0.6,
        "miou_interval": [0.5, 0.7],
        "per_class": {"road": 0.8, "water": 0.4, "barren": None},
    }
    protocol = PROTOCOL | {"mode": "semantic", "predictor": "noisy", "segmenter": None}
    return {"scores": block | {"n": 12, "images": 4} | scores, "by_task": {}, "protocol": protocol}


def referring(**protocol):
    """A summary of another mode."""
    block = {"miou": 0.75, "oiou": 0.5, "boundary_iou": 0.25, "n": 4, "miou_interval": [0.7, 0.8]}
    block |= {f"pr@0.{n}": 1 - n / 10 for n in range(5, 10)}
    values = PROTOCOL | {"dataset": "rrsis-d", "split": "test", "mode": "rmsin", "predictor": "generative"}
    return {"scores": block, "by_task": {"referring": block}, "protocol": values | protocol}


def test_a_benchmark_has_its_title_and_a_folder_its_name():
    assert of_summary(semantic()).dataset == "LoveDA"
    assert of_summary(referring()).dataset == "RRSIS-D"
    assert of_summary(referring(dataset="folder")).dataset == "folder: loveda"
    assert of_summary(referring(dataset="scenes-v1")).dataset == "scenes-v1"


def test_mode_semantic_has_classes_and_leaves_out_absent_ones():
    found = of_summary(semantic(foreground_iou=0.8))
    assert found.scores == {"miou": 0.6, "foreground_iou": 0.8}
    assert found.per_class == {"road": 0.8, "water": 0.4}
    assert found.by_task == {}
    assert "segmenter" not in found.protocol
    nothing = semantic(miou=None, miou_interval=None, foreground_iou=None, per_class={"road": None})
    found = of_summary(nothing)
    assert (found.scores, found.per_class, found.interval) == ({}, {}, None)


def test_other_modes_require_every_score():
    found = of_summary(referring())
    assert found.scores["boundary_iou"] == 0.25
    assert found.by_task == {"referring": (4, 0.75)}
    assert found.per_class == {}
    for broken in ({"miou": None}, {"miou_interval": None}, {"oiou": 2.0}):
        summary = referring()
        summary["scores"] = summary["scores"] | broken
        with pytest.raises((ValueError, TypeError)):
            of_summary(summary)


@pytest.mark.parametrize(
    ("summary", "names"),
    [
        (semantic(), ["mIoU", "IoU (road)", "IoU (water)"]),
        (referring(adapter="/home/somebody/runs/lora"), [*METRICS.values(), "mIoU (referring)"]),
    ],
)
def test_the_file_can_be_pasted_into_a_model_card(tmp_path, summary, names):
    model_index.write(tmp_path, summary, TITLES)
    text = (tmp_path / "model-index.yaml").read_text(encoding="utf-8")
    assert list(yaml.safe_load(text)) == ["model-index"]
    assert "somebody" not in text
    card = ModelCard(f"---\nlicense: mit\n{text}---\n\n# A model\n")
    assert card.data.model_name == ("lora" if "adapter" in summary["protocol"] else "noisy")
    by_name = {result.metric_name: result for result in card.data.eval_results}
    assert list(by_name) == [name for name in names if name != "foreground IoU"]
    assert by_name["mIoU"].metric_value == summary["scores"]["miou"]
    assert by_name["mIoU"].metric_args["mode"] == summary["protocol"]["mode"]
    assert (by_name["mIoU"].dataset_type, by_name["mIoU"].dataset_split) == (
        summary["protocol"]["dataset"],
        summary["protocol"]["split"],
    )


def test_a_set_without_classes_writes_an_empty_block(tmp_path):
    nothing = semantic(miou=None, miou_interval=None, per_class={"road": None})
    model_index.write(tmp_path, nothing, TITLES)
    text = (tmp_path / "model-index.yaml").read_text()
    assert yaml.safe_load(text) == {"model-index": [{"name": "noisy", "results": []}]}


SHARES = st.floats(0, 1)


@st.composite
def runs(draw):
    text = st.text(min_size=1)
    protocol = st.dictionaries(st.sampled_from(model_index.PROTOCOL), text | st.integers())
    return Evaluation(
        draw(text),
        draw(text),
        draw(text),
        draw(st.dictionaries(st.sampled_from(list(METRICS)), SHARES, min_size=1)),
        (0.0, 1.0),
        draw(st.dictionaries(text, st.tuples(st.integers(1, 99), SHARES), max_size=3)),
        draw(st.dictionaries(text, SHARES, max_size=3)),
        draw(protocol),
    )


@given(runs())
def test_the_hub_reads_back_every_score(run):
    results = model_index.results(run)
    assert len(results) == len(run.scores) + len(run.by_task) + len(run.per_class)
    name, found = model_index_to_eval_results(eval_results_to_model_index("m", results))
    assert name == "m"
    assert [(r.metric_name, r.metric_value) for r in found] == [
        (r.metric_name, r.metric_value) for r in results
    ]
    card = ModelCard(f"---\n{ModelCardData(model_name='m', eval_results=results).to_yaml()}\n---\n")
    assert card.data.eval_results == found
    assert {r.dataset_split for r in found} == {" ".join(run.split.split())}
    by_name = {r.metric_name: r.metric_value for r in results[: len(run.scores)]}
    assert all(by_name[METRICS[key]] == pytest.approx(value, abs=1e-4) for key, value in run.scores.items())
