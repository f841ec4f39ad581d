"""Charts show every value at its place, in the SVG and in the PNG."""

import re

import numpy as np
import pytest

from geoclick.pages import line_chart
from geoclick.pages.line_chart import Curve, LineChart

CHART = LineChart(
    "Points",
    "points <per> side",
    ["8", "16", "29"],
    [Curve("mIoU", "#33658a", [0.4, 0.5, 0.55]), Curve("oracle", "#d08a1d", [0.6, None, 0.8])],
)


def test_the_svg_has_a_titled_dot_for_each_value_and_a_line_for_each_curve():
    drawn = line_chart.svg(CHART)
    assert len(re.findall("<title>", drawn)) == 5
    assert "mIoU, points &lt;per&gt; side 29: 0.550" in drawn
    assert drawn.count("<polyline") == 2
    assert [len(line.split()) for line in re.findall(r'points="([^"]*)"', drawn)] == [3, 2]
    apart = LineChart("t", "a", CHART.labels, CHART.curves, joined=False)
    assert "<polyline" not in line_chart.svg(apart)


def test_places_are_those_of_the_values():
    layout = line_chart._layout(CHART)
    assert [level.text for level in layout.levels] == ["0.40", "0.50", "0.60", "0.70", "0.80"]
    places = {level.text: level.y for level in layout.levels}
    first, second = layout.curves
    assert first.points[0].y == pytest.approx(places["0.40"])
    assert first.points[2].y == pytest.approx((places["0.50"] + places["0.60"]) / 2)
    assert second.points[1].y == pytest.approx(places["0.80"])
    assert [point.x for point in second.points] == [layout.ticks[0].x, layout.ticks[2].x]


@pytest.mark.parametrize(
    "values", [[0.5, 0.5, 0.5], [None, None, None], [0.0, 1.0, 0.3], [0.501, 0.502, 0.503]]
)
def test_levels_enclose_the_values(values):
    layout = line_chart._layout(LineChart("t", "a", ["1", "2", "3"], [Curve("c", "#000000", values)]))
    low, high = float(layout.levels[0].text), float(layout.levels[-1].text)
    assert 2 <= len(layout.levels) <= line_chart.LEVELS + 1
    assert all(low <= value <= high for value in values if value is not None)


def test_the_png_has_the_dots_at_the_places_of_the_svg():
    picture = line_chart.png([CHART, CHART, CHART])
    scale, columns, rows = line_chart.SCALE, 2, 2
    assert picture.shape == (scale * (line_chart.HEIGHT + 28) * rows, scale * line_chart.WIDTH * columns, 3)
    assert picture.dtype == np.uint8
    for curve in line_chart._layout(CHART).curves:
        color = [int(curve.color[i : i + 2], 16) for i in (1, 3, 5)]
        for point in curve.points:
            assert picture[round(scale * (point.y + 28)), round(scale * point.x)].tolist() == color


def test_long_labels_are_shortened():
    labels = ["a very long name of a model that fits nowhere"] * 6
    layout = line_chart._layout(LineChart("t", "a", labels, [Curve("c", "#000000", [0.1] * 6)]))
    assert all(tick.text.endswith("...") for tick in layout.ticks)
