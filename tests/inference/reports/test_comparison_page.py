import re

import numpy as np
import pytest

from geoclick import images
from geoclick.inference import compare
from tests.inference import evaluated
from tests.inference.pages import check_self_contained

HOSTILE = '<script>alert("x")</script><b1>&'
EMPTY = np.zeros(evaluated.SIZE, bool)
TARGET = evaluated.square(8, 8, 16)


@pytest.fixture
def page(tmp_path):
    """A page of three samples: one that gains in B, with a hostile query, one that loses, and an unchanged one."""
    root = tmp_path / "data"
    root.mkdir()
    images.write_png(root / "0.png", np.full((*evaluated.SIZE, 3), 90, np.uint8))
    masks_of_both = [(EMPTY, TARGET), (TARGET, evaluated.square(8, 8, 8)), (TARGET, TARGET)]
    runs = []
    for letter in "ab":
        records = [
            evaluated.record(
                f"s{i}",
                TARGET,
                masks["ab".index(letter)],
                query=HOSTILE if i == 0 else "the tank",
                category=HOSTILE,
                text=f"{HOSTILE} of {letter}",
                clicks=[[8.0, 8.0, letter == "a"]],
                image="gone.png" if i == 1 else "0.png",
            )
            for i, masks in enumerate(masks_of_both)
        ]
        name = f"<b1>{letter}"
        runs.append(evaluated.write(tmp_path / name, records, root=str(root), adapter=f"<b1>{letter}"))
    compare.compare(*runs, tmp_path / "out", gallery=3, seed=0)
    return (tmp_path / "out/compare.html").read_text(encoding="utf-8")


def section(page, title):
    return page.split(f"<h2>{title}</h2>", 1)[1].split("<h2>")[0]


def test_the_page_is_self_contained_and_escapes_text(page):
    names = check_self_contained(page)
    # Image, target and both predictions of the two that changed.
    assert len(names.addresses) == 2 * 4
    assert "<title>&lt;b1&gt;b compared with &lt;b1&gt;a</title>" in page


@pytest.mark.parametrize(("count", "colored"), [(5, False), (6, True)])
def test_a_group_of_few_samples_has_no_color(tmp_path, count, colored):
    runs = []
    for letter, mask in (("a", EMPTY), ("b", TARGET)):
        records = [evaluated.record(f"s{i}", TARGET, mask, image=f"{i}.png") for i in range(count)]
        runs.append(evaluated.write(tmp_path / letter, records, root=str(tmp_path)))
    compare.compare(*runs, tmp_path / "out", gallery=1, seed=0)
    page = (tmp_path / "out/compare.html").read_text(encoding="utf-8")
    assert ('<span class="up">+1.000</span>' in section(page, "By task")) == colored
    # The score of all samples has its p-value next to it.
    assert '<span class="up">+1.000</span>' in section(page, "Scores")


def test_changed_samples_are_shown_with_both_answers(page):
    gained, lost = section(page, "Largest gains"), section(page, "Largest losses")
    assert "<small>s0 " in gained
    assert "<small>s1 " not in gained
    assert "<small>s1 " in lost
    assert "<small>s2 " not in gained + lost
    assert '<b class="up">+1.000</b>' in gained
    assert '<b class="down">-0.750</b>' in lost
    for label in ("image", "target", "A 0.000", "B 1.000"):
        assert f"<span>{label}</span>" in gained
    for letter in "AB":
        said = re.search(rf"<code><b>{letter}</b> (.*?)</code>", gained)[1]
        assert said == f"&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;&lt;b1&gt;&amp; of {letter.lower()}"
    assert "gone.png does not exist" in lost


def test_scores_and_protocols_of_both_runs_are_shown(page):
    scores = section(page, "Scores")
    assert "<td>mIoU</td><td>0.667</td><td>0.750</td>" in scores
    # No color: the interval holds zero.
    assert "<span>+0.083</span>" in scores
    differing = section(page, "Differences between the protocols")
    assert '<td>adapter</td><td class="wrap">&lt;b1&gt;a</td><td class="wrap">&lt;b1&gt;b</td>' in differing
    assert "Everything else in the protocols is the same." in differing
    assert "<td>referring</td><td>3</td>" in section(page, "By task")
    assert "no difference that these samples show" in page
