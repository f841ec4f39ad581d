import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.contrastive import classes
from geoclick.inference.contrastive.classes import ClassList


def test_classes_synonyms_and_colors_of_a_text():
    parsed = classes.parse("building,  roof ; road: #808182; open water , river: 10 20 30; Background")
    assert parsed.names == ("building", "road", "open water", "Background")
    assert parsed.queries == ("building", "roof", "road", "open water", "river", "Background")
    assert parsed.query_classes == (0, 0, 1, 2, 2, 3)
    assert parsed.colors == (classes.PALETTE[0], (0x80, 0x81, 0x82), (10, 20, 30), (0, 0, 0))
    assert parsed.background == 3
    assert classes.parse("building; road;").background is None


def test_a_file_has_one_class_a_line(tmp_path):
    path = tmp_path / "cls_loveda.txt"
    path.write_text("background\nbuilding,roof,house\n\nroad : red\nwater\n", encoding="utf-8-sig")
    parsed = classes.from_option(str(path))
    assert parsed.queries == ("background", "building", "roof", "house", "road", "water")
    assert parsed.query_classes == (0, 1, 1, 1, 2, 3)
    assert parsed.colors[2] == (255, 0, 0)


def test_a_json_file_has_the_form_of_a_legend(tmp_path):
    path = tmp_path / "classes.json"
    content = {"building, roof": [1, 2, 3], "road": None, "water": "#0000ff"}
    path.write_text(json.dumps({"classes": content, "ignore": [[0, 0, 0]]}), encoding="utf-8")
    parsed = classes.read(path)
    assert parsed.synonyms == (("building", "roof"), ("road",), ("water",))
    assert parsed.colors == ((1, 2, 3), classes.PALETTE[0], (0, 0, 255))


def test_free_colors_are_distinct_and_none_of_the_given_ones():
    red, green, blue = classes.PALETTE[0]
    names = [f"class {i}" for i in range(1, classes.MAX_CLASSES)]
    parsed = classes.parse(f"{'; '.join(names)}; last: {red} {green} {blue}")
    assert len(set(parsed.colors)) == classes.MAX_CLASSES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty class list"),
        (" ;", "without a name"),
        ("road; ; water", "without a name"),
        ("road; , ; water", "without a name"),
        (": red", "without a name"),
        ("road; Road", "'Road' twice"),
        ("building, roof; roof", "'roof' twice"),
        ("road, road", "'road' twice"),
        ("road: blurple", "unknown color 'blurple' for 'road'"),
        ("road: 1 2 256", "unknown color"),
        ("road:", "unknown color"),
        ("road: #11223344", "unknown color"),
        ("road: red; water: #ff0000", "one color for 'road' and 'water'"),
        ("; ".join(f"class {i}" for i in range(256)), "256 classes"),
    ],
)
def test_a_wrong_list_is_one_sentence(text, message, tmp_path):
    with pytest.raises(UsageError, match=message) as error:
        classes.parse(text)
    assert "\n" not in str(error.value)
    path = tmp_path / "classes.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(GeoClickError, match=message) as error:
        classes.from_option(str(path))
    assert str(path) in str(error.value)
    assert error.value.exit_code == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "does not exist"),
        ("binary.txt", b"\xff\xfe\x00", "UTF-8"),
        ("list.json", b"[1]", "must hold"),
        ("broken.json", b"{", "must hold"),
        ("empty.json", b'{"classes": {}}', "empty class list"),
        ("color.json", b'{"classes": {"road": [1, 2]}}', "unknown color '1 2'"),
        ("large.txt", b"road\n" * 2**19, "larger than"),
    ],
)
def test_a_wrong_file_is_one_sentence(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GeoClickError, match=message):
        classes.from_option(str(path))


def test_a_folder_is_no_class_file(tmp_path):
    folder = tmp_path / "classes.txt"
    folder.mkdir()
    with pytest.raises(GeoClickError, match="is no plain file"):
        classes.from_option(str(folder))


def test_a_path_that_is_no_file_is_not_the_name_of_a_class(tmp_path, monkeypatch):
    (tmp_path / "water").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "none")
    for name, message in (("water", "is no plain file"), ("link", "does not exist")):
        with pytest.raises(GeoClickError, match=message):
            classes.from_option(str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    assert list(classes.from_option("water").names) == ["water"]


names = st.text("abcdefghij ", min_size=1, max_size=8).map(str.strip).filter(bool)


@given(st.lists(names, min_size=1, max_size=20, unique_by=lambda name: " ".join(name.split())), st.data())
def test_written_lists_are_read_back(all_names, data):
    all_names = [" ".join(name.split()) for name in all_names]
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=len(all_names), max_size=len(all_names)))
    synonyms, rest = [], list(all_names)
    for size in sizes:
        if rest:
            synonyms.append(tuple(rest[:size]))
            rest = rest[size:]
    parsed = classes.parse("; ".join(", ".join(one) for one in synonyms))
    assert isinstance(parsed, ClassList)
    assert parsed.synonyms == tuple(synonyms)
    assert len(set(parsed.colors)) == len(synonyms)
