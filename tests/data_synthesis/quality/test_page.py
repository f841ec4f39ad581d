from html.parser import HTMLParser

import numpy as np
import pytest

from geoclick.clicks import Click
from geoclick.data_synthesis.quality.figures import all_figures
from geoclick.data_synthesis.quality.flags import CONTRADICTION, DUPLICATE, LOW_IOU, SLIVER
from geoclick.data_synthesis.quality.gallery import ALL, largest_groups
from geoclick.data_synthesis.quality.measures import GROUPS
from geoclick.data_synthesis.quality.page import render
from geoclick.pages.figures import Figure
from tests.data_synthesis.click_rows import make_row, measure, random_rows

HOSTILE = "</style><script>alert(1)</script><img src=http://x onerror='y'>&"
VOID = {"meta", "img", "br"}


class PageParser(HTMLParser):
    """Collects tags, attributes and texts, and checks that every element is closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def quality_of(rows, **changes):
    measures = measure(rows)
    reasons = (LOW_IOU, DUPLICATE, SLIVER, CONTRADICTION, "any")
    flags = {reason: np.arange(len(rows)) % 3 == 0 for reason in reasons}
    quality = {
        "store": "runs/synth",
        "made_with": {"segmenter": "embedded"},
        "iou_target": 0.9,
        "max_clicks": 5,
        "tokenizer": "embedded",
        "limits": {"min_iou": 0.5, "duplicate_iou": 0.95, "duplicate_query": "any", "min_radius": 2.0},
        "contradictions": {"contradicting": 0, "share": 0.0, "questions": 0, "ceiling": 1.0},
        **all_figures(measures, flags, 5),
    }
    shown = {group: largest_groups(measures, group) for group in GROUPS}
    galleries = {(g, n): [Figure([], n)] for g in GROUPS for n in shown[g]}
    galleries |= {ALL: [Figure([], "worst")], (DUPLICATE, ""): [], (SLIVER, ""): []}
    return render(quality | changes, galleries, shown)


def test_the_page_is_complete_and_shows_the_figures():
    page = PageParser(quality_of(random_rows(0, 60)))
    text = " ".join(page.text)
    assert "By dataset" in text
    assert "By category" in text
    assert "roof" in text
    assert "worst" in text
    rows = random_rows(0, 60)
    best = np.mean([max(r.ious, default=0) for r in rows if r.task != "no_target"])
    assert f"whose mean is {best:.3f}." in text
    final = np.mean([(0, *r.ious)[-1] for r in rows if r.task != "no_target"])
    assert f"{final:.3f}" in page.text
    assert "contradict others:" not in text


def test_contradictions_have_a_sentence_with_their_ceiling():
    found = {"contradicting": 562, "share": 0.99, "questions": 62, "ceiling": 0.1}
    page = PageParser(quality_of(random_rows(0, 60), contradictions=found))
    assert "562 samples contradict others: they are about 62 questions" in " ".join(page.text)
    assert "at most 0.100, even with perfect masks" in " ".join(page.text)
    assert "99.0 %" in page.text


@pytest.mark.parametrize("where", ["category", "dataset", "store", "tokenizer", "segmenter"])
def test_hostile_text_is_only_text(where):
    rows = random_rows(0, 40)
    changes = {}
    if where in ("category", "dataset"):
        rows += [make_row(np.ones((9, 9), bool), [Click(2, 2)], [0.4], **{where: HOSTILE})]
    elif where == "segmenter":
        changes = {"made_with": {HOSTILE: HOSTILE}}
    else:
        changes = {where: HOSTILE}
    page = PageParser(quality_of(rows, **changes))
    assert "script" not in page.tags
    assert any(HOSTILE in text for text in page.text)
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_nothing_is_loaded_from_elsewhere():
    page = PageParser(quality_of(random_rows(0, 60)))
    assert {"script", "link", "iframe", "object"}.isdisjoint(page.tags)
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert sources
    assert all(value.startswith("data:image/") for value in sources)
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'")


def test_a_store_without_targets_has_a_page():
    page = PageParser(quality_of([make_row(np.zeros((5, 5), bool))] * 3))
    assert "No sample has a target." in page.text


def test_noc_above_the_iou_target_has_a_note():
    rows = random_rows(0, 20)
    assert "NoC@85 and NoC@90 count sequences as failures" in quality_of(rows, iou_target=0.8)
    assert "count sequences as failures" not in quality_of(rows, iou_target=0.9)
    assert "count sequences as failures" not in quality_of(rows, iou_target=None)
