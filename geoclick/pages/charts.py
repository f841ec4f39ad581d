"""Charts for pages: inline SVG and images, computed from numbers; the markup is in templates/charts.html."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from geoclick import pages
from geoclick.pages import click_drawing
from geoclick.pages.figures import Picture, data_uri

WIDTH, HEIGHT = 560, 230
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 18, 40
MAIN = "#33658a"
POSITIVE, NEGATIVE = (
    "#{:02x}{:02x}{:02x}".format(*click_drawing.COLORS[sign]) for sign in ("positive", "negative")
)


class Series(NamedTuple):
    """One value for each label of a bar chart, with the name and color of all."""

    name: str
    color: str
    values: Sequence[float]


class _Bar(NamedTuple):
    title: str
    color: str
    x: float
    y: float
    width: float
    height: float
    value: str


class _Box(NamedTuple):
    title: str
    x: float
    y: dict[str, float]


class _Tick(NamedTuple):
    position: float
    text: str


def box_plot(title: str, axis: str, boxes: Mapping[str, Mapping[str, float]]) -> Markup:
    """Distributions of IoU: means joined by a line, boxes of the middle half with the median, whiskers from 5 to 95 %.

    Args:
        title: for screen readers.
        axis: label of the horizontal axis.
        boxes: for each label below the axis `mean` and the quantiles `q05`, `q25`, `q50`, `q75` and `q95`.
    """
    slot = _plot_width() / len(boxes)
    drawn = [
        _Box(
            f"{axis} {label}: mean {box['mean']:.3f}, median {box['q50']:.3f}, "
            f"5 to 95 % {box['q05']:.3f} to {box['q95']:.3f}",
            LEFT + slot * (i + 0.5),
            {key: _y(box[key]) for key in ("mean", "q05", "q25", "q50", "q75", "q95")},
        )
        for i, (label, box) in enumerate(boxes.items())
    ]
    ticks = [_Tick(box.x, label) for box, label in zip(drawn, boxes, strict=True)]
    levels = [_Tick(_y(k / 5), f"{k / 5:.1f}") for k in range(6)]
    half = min(slot * 0.28, 22)
    return _chart("box_plot.html", title=title, axis=axis, levels=levels, ticks=ticks, boxes=drawn, half=half)


def bar_chart(
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    axis: str,
    *,
    top: float | None = None,
    form: str = "{:.0f}",
    show_values: bool = False,
) -> Markup:
    """Bars next to each other.

    Args:
        title: for screen readers.
        labels: below the bars.
        series: bars of one color, one for each label.
        axis: label of the horizontal axis.
        top: value at the upper edge; None takes one that fits the largest value.
        form: format of values.
        show_values: whether values are also written above their bars.
    """
    # A multiple of four, so that the level lines of counts are whole numbers.
    highest = top or 4 * max(1, math.ceil(max(value for one in series for value in one.values) / 4))
    slot = _plot_width() / max(len(labels), 1)
    width = slot * 0.8 / len(series)
    bars = []
    for i, label in enumerate(labels):
        for j, one in enumerate(series):
            value, y = form.format(one.values[i]), _y(one.values[i] / highest)
            x = LEFT + slot * (i + 0.1) + width * j
            height = HEIGHT - BOTTOM - y
            bars.append(_Bar(f"{one.name} {label}: {value}", one.color, x, y, width, height, value))
    ticks = [_Tick(LEFT + slot * (i + 0.5), label) for i, label in enumerate(labels)]
    levels = [_Tick(_y(k / 4), form.format(highest * k / 4)) for k in range(5)]
    return _chart(
        "bar_chart.html",
        title=title,
        axis=axis,
        levels=levels,
        ticks=ticks,
        bars=bars,
        show_values=show_values,
    )


def iou_histogram(ious: Sequence[float] | np.ndarray) -> Markup:
    """How many samples have an IoU in each tenth; 1.0 belongs to the last tenth."""
    counts, _ = np.histogram(np.clip(ious, 0, 1), bins=np.linspace(0, 1, 11))
    labels = [f"{i / 10:.1f}{pages.DASH}{(i + 1) / 10:.1f}" for i in range(10)]
    series = [Series("IoU", MAIN, counts.tolist())]
    return bar_chart("Histogram of IoU per sample", labels, series, "IoU of a sample", show_values=True)


def heat_map(counts: Sequence[Sequence[int]], color: str) -> Picture:
    """A picture of counts on a grid, one pixel a cell: white where none, `color` (#rrggbb) where most."""
    grid = np.array(counts, float)
    share = (grid / max(grid.max(), 1))[..., None]
    full = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    pixels = (255 * (1 - share) + full * share).round().astype(np.uint8)
    most = 100 * grid.max() / max(grid.sum(), 1)
    return Picture(
        data_uri(pixels, kind="PNG"), f"map of clicks; the fullest cell holds {most:.1f} % of them"
    )


def _chart(template: str, **values: object) -> Markup:
    frame = {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
    }
    # Escaped by the template.
    return Markup(pages.render(template, **frame, **values))


def _plot_width() -> int:
    return WIDTH - LEFT - RIGHT


def _y(share: float) -> float:
    """The vertical position of a value, given as a share of the highest."""
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)
