from xml.etree import ElementTree

from geoclick.pages import layout


def test_a_page_lets_nothing_in_and_escapes_its_title():
    text = layout.document("a <b> & c", "<p>body</p>")
    assert "<title>a &lt;b&gt; &amp; c</title>" in text
    assert "<h1>a &lt;b&gt; &amp; c</h1><p>body</p></body>" in text
    assert f'content="{layout.POLICY}"' in text
    assert "default-src 'none'" in layout.POLICY
    assert "script" not in layout.POLICY


def test_a_table_has_its_head_its_rows_and_words_to_the_left():
    table = ElementTree.fromstring(layout.table(("name", "n"), [("a", 1), ("b", 2)]))
    cells = [[cell.text for cell in row] for row in table.iter("tr")]
    assert cells == [["name", "n"], ["a", "1"], ["b", "2"]]
    words = ElementTree.fromstring(layout.table((), [("a", "told")], words=True))
    ((first, second),) = words.iter("tr")
    assert (first.get("class"), second.get("class")) == (None, "wrap")


def test_what_is_not_there_is_a_dash_and_no_section():
    assert layout.number(None) == layout.interval(None) == layout.DASH
    assert layout.number(0.12345) == "0.123"
    assert layout.interval((0.1, 0.25)) == "0.100 to 0.250"
    assert layout.section("x", "") == ""
    assert layout.section("<x>", "y") == "<h2>&lt;x&gt;</h2>y"
    assert "<summary>&lt;x&gt;</summary>y" in layout.folded("<x>", "y")
