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


def render(story, runs=(), **options):
    return card_text.render(story, runs, **{"name": "clicks", "hub_name": None, "license": None} | options)


def section(text, title):
    return text.split(f"## {title}\n", 1)[1].split("\n## ")[0]


def test_an_adapters_card_has_base_data_recipe_and_limits():
    text = render(ADAPTER)
    assert "| revision | 0123abcd |" in section(text, "Base model")
    data = section(text, "Data")
    for row in ("| dataset | DATA |", "| layout | coco |", "| segmenter in the loop | sam\\_vit\\_l |"):
        assert row in data
    assert "| rows left out, below min\\_iou | 2 |" in data
    recipe = section(text, "Recipe")
    assert "| lora\\_r | 32 |" in recipe
    assert "| commit of geoclick | beef |" in recipe
    assert "at most 6" in section(text, "Limits")
    assert "Not stated" in section(text, "Licence")
    assert "None yet" in section(text, "Figures")
    assert "## Merging" not in text
    assert "somebody" not in text


def test_the_commands_load_what_the_card_is_about():
    adapter, pushed = render(ADAPTER), render(ADAPTER, hub_name="me/clicks")
    assert "--vlm Qwen/Qwen3-VL-2B-Instruct --adapter clicks\n" in adapter
    assert "hf download me/clicks --local-dir clicks\n" in pushed
    assert "--vlm clicks\n" in render(MERGED)
    assert "--vlm me/clicks\n" in render(MERGED, hub_name="me/clicks")
    assert "--adapter" not in render(MERGED)


def test_a_merged_models_card_tells_of_the_check():
    merging = section(render(MERGED), "Merging")
    assert "| dtype | bfloat16 |" in merging
    assert "| same answers | 23 |" in merging


def test_figures_stand_with_their_protocol():
    figures = section(render(ADAPTER, [RUN]), "Figures")
    assert "| dataset | split | samples | mIoU | oIoU | Pr@0.5 | mIoU, 95 % interval |" in figures
    assert "| coco: DATA | test | 4 | 0.500 | 0.625 | 0.750 | 0.250 to 0.750 |" in figures
    assert "| coco: DATA | test | referring | 4 | 0.125 |" in figures
    assert "| decode | replay |" in figures
    assert "| class |" not in figures


def test_a_set_of_classes_stands_beside_samples():
    figures = section(render(ADAPTER, [RUN, SET]), "Figures")
    assert "| coco: DATA | test | 4 | 0.500 | 0.625 | 0.750 | 0.250 to 0.750 |" in figures
    assert "| LoveDA | val | 14 | 0.375 |  |  | 0.250 to 0.500 |" in figures
    assert "| LoveDA | val | road | 0.500 |" in figures
    assert "| LoveDA | val | a\\|b | 0.250 |" in figures
    alone = section(render(ADAPTER, [SET]), "Figures")
    assert "| task |" not in alone


def test_what_is_not_known_is_said():
    embedded = dataclasses.replace(RECORD, base="embedded", revision="")
    text = render(dataclasses.replace(ADAPTER, record=embedded, data={}))
    assert "manifest was not at hand" in section(text, "Data")
    assert "procedural scenes only" in section(text, "Limits")
    assert "| revision |" not in text
    assert "| licence" not in text
    assert section(render(ADAPTER, license="apache-2.0"), "Licence").strip() == "apache-2.0"


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), min_size=1))
def test_a_table_has_as_many_cells_as_it_was_given_whatever_is_in_them(rows):
    lines = card_text.table(["a", "b"], rows).split("\n")
    assert len(lines) == len(rows) + 2
    for line in lines:
        assert len(re.split(r"(?<!\\)(?:\\\\)*\|", line)) == 4
        assert "<" not in line


@given(st.text())
def test_no_text_of_a_file_opens_a_heading_or_a_tag(text):
    story = dataclasses.replace(ADAPTER, data=DATA | {"split": text, "policy": f"\n# {text}"})
    story = dataclasses.replace(story, record=dataclasses.replace(RECORD, config={text: text, "root": text}))
    plain, told = render(ADAPTER), render(story)
    headings = [line for line in plain.splitlines() if line.startswith("#")]
    assert [line for line in told.splitlines() if line.startswith("#")] == headings
    assert told.count("<") == plain.count("<")
