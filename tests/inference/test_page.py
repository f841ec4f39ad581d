from xml.etree import ElementTree

from inference import page


def test_a_page_lets_nothing_in_and_escapes_its_title():
    text = page.document("a <b> & c", "<p>body</p>")
    assert "<title>a &lt;b&gt; &amp; c</title>" in text
    assert "<h1>a &lt;b&gt; &amp; c</h1><p>body</p></body>" in text
    assert f'content="{page.POLICY}"' in text
    assert "default-src 'none'" in page.POLICY
    assert "script" not in page.POLICY


def test_a_table_has_its_head_its_rows_and_words_to_the_left():
    table = ElementTree.fromstring(page.table(("name", "n"), [("a", 1), ("b", 2)]))
    cells = [[cell.text for cell in row] for row in table.iter("tr")]
    assert cells == [["name", "n"], ["a", "1"], ["b", "2"]]
    words = ElementTree.fromstring(page.table((), [("a", "told")], words=True))
    ((first, second),) = words.iter("tr")
    assert (first.get("class"), second.get("class")) == (None, "wrap")


def test_what_is_not_there_is_a_dash_and_no_section():
    assert page.number(None) == page.interval(None) == page.DASH
    assert page.number(0.12345) == "0.123"
    assert page.interval((0.1, 0.25)) == "0.100 to 0.250"
    assert page.section("x", "") == ""
    assert page.section("<x>", "y") == "<h2>&lt;x&gt;</h2>y"
    assert "<summary>&lt;x&gt;</summary>y" in page.folded("<x>", "y")
