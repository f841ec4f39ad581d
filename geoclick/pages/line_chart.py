"""Line charts of scores: one layout, drawn as inline SVG for pages and as a PNG for everything else."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from geoclick import pages
from geoclick.pages.captions import shorten

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 34, 44
FONT, SMALL, RADIUS = 12, 11, 3.5
INK, SOFT, LINE, PAPER = "#1c2429", "#5d6972", "#dfe3e6", "#ffffff"
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Distances between the level lines; the smallest that gives at most LEVELS of them is taken."""
LEVELS = 6
SPAN = 0.1
"""Smallest range of the vertical axis."""
SCALE = 2
"""Pixels of the PNG in one unit of the layout."""


class Curve(NamedTuple):
    """A score for each label of a chart.

    Attributes:
        name: in the legend.
        color: `#rrggbb`.
        values: from 0 to 1; None where there is none.
    """

    name: str
    color: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class LineChart:
    """Scores over the values of one axis, at equal distances.

    Attributes:
        title: above the chart in the PNG, and for screen readers.
        axis: label of the horizontal axis.
        labels: of its values.
        curves: the scores.
        joined: whether the points of a curve are joined by a line; not where the values have no order.
    """

    title: str
    axis: str
    labels: Sequence[str]
    curves: Sequence[Curve]
    joined: bool = True


class _Text(NamedTuple):
    x: float
    y: float
    text: str


class _Point(NamedTuple):
    x: float
    y: float
    title: str


class _Drawn(NamedTuple):
    name: str
    color: str
    points: list[_Point]


class _Layout(NamedTuple):
    levels: list[_Text]
    ticks: list[_Text]
    curves: list[_Drawn]
    legend: list[_Text]


def svg(chart: LineChart) -> Markup:
    """A chart as inline SVG; each point has its value as a title."""
    layout = _layout(chart)
    values = {"chart": chart, "layout": layout, "frame": (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM)}
    # Escaped by the template.
    return Markup(pages.render("line_chart.html", width=WIDTH, height=HEIGHT, radius=RADIUS, **values))


def png(charts: Sequence[LineChart], *, columns: int = 2) -> np.ndarray:
    """Charts with their titles, at most `columns` in a row, uint8 [H, W, 3]."""
    head, columns = 28, max(1, min(columns, len(charts)))
    rows = max(1, math.ceil(len(charts) / columns))
    size = SCALE * WIDTH * columns, SCALE * (HEIGHT + head) * rows
    picture = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(picture)
    for number, chart in enumerate(charts):
        left, top = SCALE * WIDTH * (number % columns), SCALE * (HEIGHT + head) * (number // columns)
        title = shorten(chart.title, _font(15), SCALE * (WIDTH - LEFT))
        pen.text((left + SCALE * LEFT, top + SCALE * 10), title, INK, _font(15))
        _draw(pen, chart, left, top + SCALE * head)
    return np.asarray(picture)


def _layout(chart: LineChart) -> _Layout:
    found = [value for curve in chart.curves for value in curve.values if value is not None] or [0.0, 1.0]
    # So that small differences look small.
    middle = (min(found) + max(found)) / 2
    found += [max(0.0, middle - SPAN / 2), min(1.0, middle + SPAN / 2)]
    step = next(
        (one for one in STEPS if _levels(found, one)[1] - _levels(found, one)[0] <= LEVELS), STEPS[-1]
    )
    low, high = _levels(found, step)
    slot = (WIDTH - LEFT - RIGHT) / max(1, len(chart.labels))
    across = [LEFT + slot * (number + 0.5) for number in range(len(chart.labels))]

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value / step - low) / (high - low))

    levels = [_Text(LEFT - 6, y(step * number), f"{step * number:.2f}") for number in range(low, high + 1)]
    widest = SCALE * (slot - 4)
    ticks = [
        _Text(x, HEIGHT - BOTTOM + 16, shorten(label, _font(SMALL), widest))
        for x, label in zip(across, chart.labels, strict=True)
    ]
    curves = [
        _Drawn(
            curve.name,
            curve.color,
            [
                _Point(x, y(value), f"{curve.name}, {chart.axis} {label}: {value:.3f}")
                for x, label, value in zip(across, chart.labels, curve.values, strict=True)
                if value is not None
            ],
        )
        for curve in chart.curves
    ]
    return _Layout(levels, ticks, curves, list(_legend(chart)))


def _levels(values: Sequence[float], step: float) -> tuple[int, int]:
    """The lowest and highest level line in steps, around all values."""
    low = math.floor(min(values) / step + 1e-9)
    return low, math.ceil(max(values) / step - 1e-9)


def _legend(chart: LineChart) -> Iterator[_Text]:
    x = float(LEFT)
    for curve in chart.curves:
        yield _Text(x, 14, curve.name)
        x += 22 + _font(FONT).getlength(curve.name) / SCALE + 10


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(SCALE * size)


def _draw(pen: ImageDraw.ImageDraw, chart: LineChart, left: int, top: int) -> None:
    """Draw a chart on a picture at a place in pixels."""
    layout = _layout(chart)

    def at(x: float, y: float) -> tuple[float, float]:
        return left + SCALE * x, top + SCALE * y

    def text(one: _Text, anchor: str, color: str, size: int) -> None:
        pen.text(at(one.x, one.y), one.text, color, _font(size), anchor=anchor)

    for level in layout.levels:
        pen.line((at(LEFT, level.y), at(WIDTH - RIGHT, level.y)), LINE, SCALE)
        text(level, "rm", SOFT, SMALL)
    for tick in layout.ticks:
        text(tick, "ms", SOFT, SMALL)
    text(_Text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, chart.axis), "ms", SOFT, FONT)
    for curve, name in zip(layout.curves, layout.legend, strict=True):
        points = [at(point.x, point.y) for point in curve.points]
        if chart.joined and len(points) > 1:
            pen.line(points, curve.color, 2 * SCALE, joint="curve")
        for x, y in [*points, at(name.x + 5, name.y)]:
            reach = SCALE * RADIUS
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), curve.color)
        text(_Text(name.x + 14, name.y, name.text), "lm", INK, FONT)
