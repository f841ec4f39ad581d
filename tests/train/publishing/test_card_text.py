import dataclasses
import re

from hypothesis import given
from hypothesis import strategies as st

from geoclick.scoring.model_index import Evaluation
from geoclick.train.publishing import card_text
from tests.train.provenances import ADAPTER, DATA, MERGED, RECORD

RUN = Evaluation(
    "coco: DATA",
    "coco",
    "test",
    {"miou": 0.5, "oiou": 0.625, "pr@0.5": 0.75},
    (0.25, 0.75),
    {"referring": (4, 0.125)},
    {},
    {"n": 4, "decode": "replay"},
)
SET = Evaluation(
    "LoveDA", "loveda", "val", {"miou": 0.375}, (0.25, 0.5), {}, {"road": 0.5, "a|b": 0.25}, {"n": 14}
)


def render(provenance, runs=(), **options):
    return card_text.render(
        provenance, runs, **{"name": "clicks", "hub_name": None, "license": None} | options
    )


def section(text, title):
    return text.split(f"## {title}\n", 1)[1].split("\n## ")[0]


def test_sections_of_an_adapters_card():
    text = render(ADAPTER)
    assert "| revision | 0123abcd |" in section(text, "Base model")
    data = section(text, "Training data")
    for row in ("| dataset | DATA |", "| layout | coco |", "| segmenter in the loop | sam\\_vit\\_l |"):
        assert row in data
    assert "| rows left out, below min\\_iou | 2 |" in data
    training = section(text, "Training")
    assert "| lora\\_r | 32 |" in training
    assert "| commit of geoclick | beef |" in training
    assert "at most 6" in section(text, "Limitations")
    assert "Not stated" in section(text, "License")
    assert "None yet" in section(text, "Evaluation")
    assert "## Merging" not in text
    assert "somebody" not in text


def test_the_commands_load_the_model_of_the_card():
    adapter, pushed = render(ADAPTER), render(ADAPTER, hub_name="me/clicks")
    assert "--vlm Qwen/Qwen3-VL-2B-Instruct --adapter clicks\n" in adapter
    assert "hf download me/clicks --local-dir clicks\n" in pushed
    assert "--vlm clicks\n" in render(MERGED)
    assert "--vlm me/clicks\n" in render(MERGED, hub_name="me/clicks")
    assert "--adapter" not in render(MERGED)


def test_a_merged_models_card_has_the_check():
    merging = section(render(MERGED), "Merging")
    assert "| dtype | bfloat16 |" in merging
    assert "| same answers | 23 |" in merging


def test_scores_are_reported_with_their_protocol():
    scores = section(render(ADAPTER, [RUN]), "Evaluation")
    assert "| dataset | split | samples | mIoU | oIoU | Pr@0.5 | mIoU, 95 % interval |" in scores
    assert "| coco: DATA | test | 4 | 0.500 | 0.625 | 0.750 | 0.250 to 0.750 |" in scores
    assert "| coco: DATA | test | referring | 4 | 0.125 |" in scores
    assert "| decode | replay |" in scores
    assert "| class |" not in scores


def test_semantic_and_sample_scores_share_a_table():
    scores = section(render(ADAPTER, [RUN, SET]), "Evaluation")
    assert "| coco: DATA | test | 4 | 0.500 | 0.625 | 0.750 | 0.250 to 0.750 |" in scores
    assert "| LoveDA | val | 14 | 0.375 |  |  | 0.250 to 0.500 |" in scores
    assert "| LoveDA | val | road | 0.500 |" in scores
    assert "| LoveDA | val | a\\|b | 0.250 |" in scores
    alone = section(render(ADAPTER, [SET]), "Evaluation")
    assert "| task |" not in alone


def test_missing_information_is_reported():
    embedded = dataclasses.replace(RECORD, base="embedded", revision="")
    text = render(dataclasses.replace(ADAPTER, record=embedded, data={}))
    assert "was not available" in section(text, "Training data")
    assert "procedural scenes only" in section(text, "Limitations")
    assert "| revision |" not in text
    assert "| license" not in text
    assert section(render(ADAPTER, license="apache-2.0"), "License").strip() == "apache-2.0"


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), min_size=1))
def test_cells_with_any_text_do_not_break_a_table(rows):
    lines = card_text.table(["a", "b"], rows).split("\n")
    assert len(lines) == len(rows) + 2
    for line in lines:
        assert len(re.split(r"(?<!\\)(?:\\\\)*\|", line)) == 4
        assert "<" not in line


@given(st.text())
def test_text_from_files_opens_no_heading_or_tag(text):
    record = dataclasses.replace(RECORD, config={text: text, "root": text})
    data = DATA | {"split": text, "policy": f"\n# {text}"}
    plain, hostile = render(ADAPTER), render(dataclasses.replace(ADAPTER, record=record, data=data))
    headings = [line for line in plain.splitlines() if line.startswith("#")]
    assert [line for line in hostile.splitlines() if line.startswith("#")] == headings
    assert hostile.count("<") == plain.count("<")
