"""The files of an ablation hold the figures of its rows."""

import csv
import json

import pytest

from geoclick.inference.ablation import report
from tests.inference.ablation.test_rows import row, table
from tests.inference.pages import PageParser

DATA = {"dataset": "loveda", "split": "val", "left_out": {}, "notes": ["<b>one</b> class"]}


@pytest.fixture
def out(tmp_path):
    values = {"scale": [10.0], "points-per-side": [8]}
    report.write(tmp_path, table(), values, {"scale": [10.0], "points-per-side": [8]}, DATA)
    return tmp_path


def test_the_tables_have_all_rows(out):
    with (out / "table.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == [*report.COLUMNS, "road", "water"]
    assert [line[0] for line in lines[1:]] == [
        *("base", "scale 10", "points-per-side 8", "scale 10, points-per-side 8", "base", "points-per-side 8")
    ]
    assert lines[1][2:] == ["0.300", "0.100 to 0.200", "50.0 %", "10.0", "1.0", "1.5", "0.300", "\u2013"]
    markdown = (out / "table.md").read_text(encoding="utf-8").splitlines()
    assert markdown[2].split(" | ")[2] == "0.300"
    assert len(markdown) == len(lines) + 1
    found = json.loads((out / "metrics.json").read_text())
    assert found["best"] == "scale 10, points-per-side 8"
    assert found["rows"][3]["axes"] == {"scale": 10.0, "points-per-side": 8}
    assert found["rows"][0]["miou"] == 0.3


def test_the_page_is_text_without_anything_from_elsewhere(out):
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;one&lt;/b&gt; class" in page
    assert not {"script", "link", "img", "b1"} & PageParser(page).tags
    assert page.count("<svg") == 2
    assert "<h1>Ablation on loveda, val</h1>" in page
    report.write(out, table(), {}, {}, DATA | {"dataset": "folder", "root": "data/dubai"})
    assert "<h1>Ablation on dubai, val</h1>" in (out / "report.html").read_text(encoding="utf-8")
    assert "mIoU over scale (rows) and points-per-side (columns)" in page


def test_curves_have_the_oracle_where_the_axis_changes_it():
    curves = report.chart(table(), "points-per-side", [8]).curves
    assert [(curve.name, curve.values) for curve in curves] == [("mIoU", [0.5]), ("oracle-proposals", [0.8])]
    assert [curve.name for curve in report.chart(table(), "scale", [10.0]).curves] == ["mIoU"]


def test_curves_of_an_earlier_command_are_removed(out):
    assert (out / "curves.png").is_file()
    report.write(out, table(), {}, {}, DATA)
    assert not (out / "curves.png").exists()
    assert "<svg" not in (out / "report.html").read_text(encoding="utf-8")


def test_a_line_for_the_terminal():
    base, *_, oracle = table().measured
    assert report.line(base) == "base: mIoU 0.300, 10.0 proposals cover 50.0%, 1.0 s"
    assert report.line(oracle).startswith("oracle-proposals, points-per-side 8: mIoU 0.800")
    dense = base._replace(row=row(None, coverage=None, proposals=None))
    assert report.line(dense) == "base: mIoU \u2013, 1.0 s"
