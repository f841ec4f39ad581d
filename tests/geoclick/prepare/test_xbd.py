import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geoclick.errors import GeoClickError
from geoclick.prepare import JOBS
from geoclick.prepare.xbd import draw, rings_of

SQUARE = "POLYGON ((2 1, 6 1, 6 4, 2 4, 2 1))"
RING = "POLYGON ((0 0, 9 0, 9 9, 0 9, 0 0), (3 3, 6 3, 6 6, 3 6, 3 3))"


def test_an_outline_belongs_to_its_building():
    mask = draw(rings_of(SQUARE), (8, 10))
    expected = np.zeros((8, 10), np.uint8)
    expected[1:5, 2:7] = 1
    assert np.array_equal(mask, expected)


def test_a_hole_is_none_of_the_building_but_what_stands_in_it_stays():
    ring = draw(rings_of(RING), (10, 10))
    assert ring.sum() == 100 - 16
    assert not ring[3:7, 3:7].any()
    for order in (
        (RING, "POLYGON ((4 4, 5 4, 5 5, 4 5, 4 4))"),
        ("POLYGON ((4 4, 5 4, 5 5, 4 5, 4 4))", RING),
    ):
        both = draw([polygon for text in order for polygon in rings_of(text)], (10, 10))
        assert both[4:6, 4:6].all()
        assert both.sum() == 100 - 16 + 4


def test_several_polygons_in_one_text():
    text = (
        f"MULTIPOLYGON (({SQUARE.removeprefix('POLYGON ')[1:-1]}), ({RING.removeprefix('POLYGON ')[1:-1]}))"
    )
    assert rings_of(text) == rings_of(SQUARE) + rings_of(RING)
    assert len(rings_of(text)[1]) == 2
    assert rings_of("POLYGON Z ((2 1 5, 6 1 5, 6 4 5, 2 4 5, 2 1 5))") == rings_of(SQUARE)
    assert rings_of("POLYGON EMPTY") == []


def test_a_part_outside_the_image_is_cut_off():
    assert draw(rings_of("POLYGON ((-5 -5, 1.4 -5, 1.4 1.4, -5 1.4, -5 -5))"), (4, 4)).sum() == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "POINT (1 2)",
        "POLYGON",
        "POLYGON ((1 2, 3 4))",
        "POLYGON ((a b, 1 2, 3 4))",
        "POLYGON ((1e300 0, 1 1, 2 2))",
        "POLYGON ((nan 0, 1 1, 2 2))",
        "POLYGON ((1, 2, 3))",
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match=r"is no|has no|could not"):
        rings_of(text)


@given(st.text("POLYGNMUTI ()0123456789.,-e", max_size=60))
def test_no_text_breaks_the_parser(text):
    with contextlib.suppress(ValueError):
        rings_of(text)


def test_damage_is_building_and_a_broken_label_one_sentence(tmp_path):
    Image.fromarray(np.array([[0, 1, 2, 3, 4]], np.uint8)).save(tmp_path / "a_target.png")
    index, unknown = JOBS["xbd"].read_label(tmp_path / "a_target.png", (1, 5))
    assert (index.tolist(), unknown) == ([[0, 1, 1, 1, 1]], 0)
    for content in (
        "{",
        "[]",
        "{}",
        json.dumps({"features": {"xy": [{"wkt": 5}]}}),
        "[" * 5000,
        '{"features": 1}',
    ):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(
            GeoClickError, match=r"a.json is no label of xBD \(.*; put the published file there\.$"
        ):
            JOBS["xbd"].read_label(tmp_path / "a.json", (4, 4))
    (tmp_path / "a.json").write_text(json.dumps({"features": {"xy": []}}))
    assert JOBS["xbd"].read_label(tmp_path / "a.json", (4, 4))[0].sum() == 0
