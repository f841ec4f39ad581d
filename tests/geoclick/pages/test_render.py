import re

import jinja2
import pytest
from markupsafe import Markup

from geoclick import pages
from geoclick.pages.figures import Figure, Picture

HOSTILE = "</style><script>alert(1)</script><img src=http://x onerror='y'>&"


def rendered(source, **values):
    return pages.environment().from_string(source).render(**values)


def test_a_page_loads_nothing_from_elsewhere_and_has_its_title():
    page = pages.render("base.html", title="a <b> & c")
    assert "<title>a &lt;b&gt; &amp; c</title>" in page
    assert "<h1>a &lt;b&gt; &amp; c</h1>" in page
    assert "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\"" in page
    assert "script" not in page
    assert "box-sizing: border-box" in page
    assert "url(" not in page


@pytest.mark.parametrize("template", sorted(path.name for path in (pages.FOLDER / "templates").iterdir()))
def test_no_template_inserts_unescaped_text(template):
    source = (pages.FOLDER / "templates" / template).read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe|Markup|autoescape", source)
    assert "<script" not in source


def test_hostile_text_is_escaped_everywhere_in_a_figure():
    source = '{% from "macros.html" import figures %}{{ figures([figure]) }}'
    picture = Picture(HOSTILE, HOSTILE)
    figure = Figure([picture], HOSTILE, HOSTILE, HOSTILE, [HOSTILE], [(HOSTILE, HOSTILE)])
    page = rendered(source, figure=figure)
    assert page.count("&lt;script&gt;") == 9
    assert not {"<script", "<img src=http", "onerror='", "</style"} & {
        text for text in ("<script", "<img src=http", "onerror='", "</style") if text in page
    }


def test_hostile_text_is_escaped_in_tables_and_tiles():
    source = '{% from "macros.html" import table, tiles %}{{ table([t], [[t, t]]) }}{{ tiles([(t, t)]) }}'
    page = rendered(source, t=HOSTILE)
    assert page.count("&lt;script&gt;") == 5
    assert "<script" not in page


def test_a_table_has_its_head_its_rows_and_text_to_the_left():
    source = '{% from "macros.html" import table %}{{ table(head, rows, text) }}'
    page = rendered(source, head=["name", "n"], rows=[("a", 1), ("b", 2)], text=False)
    assert "<tr><th>name</th><th>n</th></tr>" in page
    assert "<tr><td>a</td><td>1</td></tr>" in page
    assert "<tr><td>b</td><td>2</td></tr>" in page
    page = rendered(source, head=[], rows=[("a", "text")], text=True)
    assert '<tr><td>a</td><td class="wrap">text</td></tr>' in page
    assert "<th>" not in page


@pytest.mark.parametrize(("rows", "folded"), [(12, False), (13, True)])
def test_many_rows_are_folded_away(rows, folded):
    page = rendered('{% from "macros.html" import folded %}{{ folded(range(n), "x") }}', n=rows)
    assert ("<summary>13 groups</summary>" in page) == folded


def test_missing_values_are_dashes():
    for text in (pages.number(None), pages.signed(None), pages.percent(None), pages.interval(None)):
        assert text == pages.DASH
    assert pages.signed_interval(None) == pages.DASH
    assert pages.number(0.12345) == "0.123"
    assert pages.percent(0.5) == "50.0 %"
    assert pages.interval((0.1, 0.25)) == "0.100 to 0.250"
    assert pages.signed_interval((-0.1, 0.25)) == "-0.100 to +0.250"


@pytest.mark.parametrize(
    ("value", "ends", "shown"),
    [
        (0.5, (0.1, 0.9), '<span class="up">+0.500</span>'),
        (-0.5, (-0.9, -0.1), '<span class="down">-0.500</span>'),
        (0.5, (-0.1, 1.1), "<span>+0.500</span>"),
        (0.5, None, "<span>+0.500</span>"),
        (0.0, (0.0, 0.0), "<span>0.000</span>"),
        (None, None, f"<span>{pages.DASH}</span>"),
    ],
)
def test_differences_have_a_sign_and_a_color_where_their_interval_excludes_zero(value, ends, shown):
    source = '{% from "macros.html" import difference %}{{ difference(value, ends) }}'
    assert rendered(source, value=value, ends=ends).strip() == shown


def test_zero_has_no_sign():
    assert pages.signed(-0.0004) == pages.signed(0.0004) == pages.signed(0.0) == "0.000"
    assert pages.number(-0.0004) == pages.number(-0.0) == "0.000"
    assert pages.signed_interval((-0.0004, 0.25)) == "0.000 to +0.250"
    assert (pages.signed(-0.0006), pages.number(-0.04, 1), pages.number(-3, 0)) == ("-0.001", "0.0", "-3")


def test_the_label_of_a_picture_stands_above_it_and_not_on_it():
    page = rendered(
        '{% from "macros.html" import figures %}{{ figures([f]) }}', f=Figure([Picture("s", "target")], "q")
    )
    assert page.index("<span>target</span>") < page.index("<img")
    assert "position: absolute" not in pages.environment().globals["style"]


def test_undefined_names_are_errors():
    with pytest.raises(jinja2.UndefinedError):
        pages.render("demo.html", title="x")


def test_markup_is_inserted_as_it_is():
    assert rendered("{{ chart }}", chart=Markup("<svg></svg>")) == "<svg></svg>"
