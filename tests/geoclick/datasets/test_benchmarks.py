import re

import pytest

from geoclick.datasets.benchmarks import BENCHMARKS
from tests.paths import SHARED

REFERENCE = SHARED / "reference/benchmarks.md"


def reference_rows():
    """The cells of each semantic set: layout, classes, size and tiling, prob_thd."""
    rows = {}
    for line in REFERENCE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 5:
            rows |= {title.strip(): cells[1:] for title in cells[0].split(",")}
    return rows


COUNTED = (
    *("openearthmap", "loveda", "isaid", "potsdam", "vaihingen", "inria"),
    *("deepglobe", "massachusetts", "spacenet", "wbs-si"),
)
"""The sets whose number of images the reference says."""


@pytest.mark.realdata
@pytest.mark.skipif(not REFERENCE.is_file(), reason="the reference is not next to the checkout")
def test_the_table_says_what_the_reference_says():
    rows, semantic = reference_rows(), [b for b in BENCHMARKS.values() if b.task == "semantic"]
    assert {b.title for b in semantic} == rows.keys() - {"set", "---"}
    for benchmark in semantic:
        layout, classes, size, threshold = rows[benchmark.title]
        prompts = re.findall(r"(\w+) \(prompt: (\w+)\)", classes)
        words = [re.sub(r" \(prompt: .*\)", "", words).split(",") for words in classes.split("; ")]
        assert [list(synonyms) for synonyms in benchmark.classes] == words
        assert [benchmark.prompt_names[name] for name, _ in prompts] == [prompt for _, prompt in prompts]
        assert benchmark.threshold == float(threshold.split(",")[0])
        background = re.findall(r"background index (\d)", threshold)
        assert benchmark.background in ([int(background[0])] if background else [0, None])
        if benchmark.name in COUNTED:
            assert re.search(rf"\b{benchmark.count}\b", f"{layout} {size}".replace(",", "").replace("_", " "))
        if re.search(r"\d{3,4}x\d{3,4}", size):
            assert "{}x{}".format(*benchmark.size) in size


def test_no_two_classes_share_a_name_a_color_or_a_prompt():
    for benchmark in BENCHMARKS.values():
        prompts = [words[0] for words in benchmark.prompts]
        colors = [
            *benchmark.palette,
            *benchmark.ignored_colors,
            *(color for color, _ in benchmark.merged_colors),
        ]
        for values in (benchmark.names, prompts, colors):
            assert len(set(values)) == len(values), benchmark.name
        assert len(benchmark.palette) in (0, len(benchmark.classes))


@pytest.mark.parametrize(
    ("name", "queries"),
    [
        ("udd5", ["vegetation", "building", "road", "vehicle", "background"]),
        ("vdd", ["background", "facade", "road", "vegetation", "vehicle", "roof", "water"]),
        ("potsdam", ["road", "building", "low vegetation", "tree", "car", "clutter"]),
    ],
)
def test_what_is_asked_for(name, queries):
    assert [words[0] for words in BENCHMARKS[name].prompts] == queries


def test_the_published_list_of_wbs_si():
    # The file that it is from has 7,891 characters: one name and a line feed each.
    names = BENCHMARKS["wbs-si"].scored_stems
    assert (len(names), len(set(names)), sum(len(name) + 1 for name in names)) == (499, 499, 7891)
