"""The charts of a quality report: inline SVG and data addresses, drawn from numbers only."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 560, 230
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 14, 40
INK, SOFT, LINE = "#1c2429", "#5d6972", "#dfe3e6"
MAIN, BAND = "#33658a", "#c9d9e6"
POSITIVE, NEGATIVE = "#16a34a", "#dc2626"


def iou_chart(after: Sequence[Mapping]) -> str:
    """IoU after each number of clicks: means joined by a line, boxes from the quarter to the three-quarter quantile
    with the median across, whiskers from the 5 % to the 95 % quantile.
    """  # noqa: D205
    slot = (WIDTH - LEFT - RIGHT) / len(after)
    half = min(slot * 0.28, 22)

    def y(iou: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - iou)

    parts = [_open("IoU after each number of clicks"), *_grid([k / 5 for k in range(6)], 1, "{:.1f}")]
    centers = [LEFT + slot * (i + 0.5) for i in range(len(after))]
    for x, block in zip(centers, after, strict=True):
        q05, q25, q50, q75, q95 = (y(block[f"q{q}"]) for q in ("05", "25", "50", "75", "95"))
        told = (
            f"after {block['clicks']}: mean {block['mean']:.3f}, median {block['q50']:.3f}, "
            f"5 to 95 % {block['q05']:.3f} to {block['q95']:.3f}"
        )
        parts.append(
            f"<g><title>{told}</title>"
            f'<path d="M{x:.1f} {q05:.1f}V{q95:.1f}" stroke="{MAIN}" stroke-width="1.5"/>'
            f'<rect x="{x - half:.1f}" y="{q75:.1f}" width="{2 * half:.1f}" height="{max(q25 - q75, 1):.1f}" '
            f'fill="{BAND}" stroke="{MAIN}"/>'
            f'<path d="M{x - half:.1f} {q50:.1f}h{2 * half:.1f}" stroke="{MAIN}" stroke-width="2"/></g>'
            f"{_text(x, HEIGHT - BOTTOM + 16, str(block['clicks']))}"
        )
    line = " ".join(f"{x:.1f},{y(block['mean']):.1f}" for x, block in zip(centers, after, strict=True))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{INK}" stroke-width="2"/>')
    parts += [
        f'<circle cx="{x:.1f}" cy="{y(block["mean"]):.1f}" r="3.5" fill="{INK}"/>'
        for x, block in zip(centers, after, strict=True)
    ]
    return "".join([*parts, _axis("clicks"), "</svg>"])


def bar_chart(
    title: str,
    labels: Sequence[str],
    series: Sequence[tuple[str, str, Sequence[float]]],
    axis: str,
    *,
    top: float | None = None,
    form: str = "{:.0f}",
) -> str:
    """Bars side by side.

    Args:
        title: what a screen reader says.
        labels: below the bars.
        series: name, color and one value a label, each.
        axis: below the labels.
        top: the value at the upper edge; None takes one that holds the largest.
        form: how values are written.
    """
    # Counts: a multiple of four, so that the level lines stand at whole numbers.
    highest = top or 4 * max(1, math.ceil(max(value for _, _, values in series for value in values) / 4))
    slot = (WIDTH - LEFT - RIGHT) / max(len(labels), 1)
    width = slot * 0.8 / len(series)
    parts = [_open(title), *_grid([highest * k / 4 for k in range(5)], highest, form)]
    for i, label in enumerate(labels):
        for j, (name, color, values) in enumerate(series):
            tall = (HEIGHT - TOP - BOTTOM) * values[i] / highest
            x = LEFT + slot * (i + 0.1) + width * j
            parts.append(
                f"<g><title>{escape(f'{name} {label}: {form.format(values[i])}')}</title>"
                f'<rect x="{x:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}" width="{width:.1f}" height="{tall:.1f}" '
                f'fill="{color}"/></g>'
            )
        parts.append(_text(LEFT + slot * (i + 0.5), HEIGHT - BOTTOM + 16, label, size=11))
    return "".join([*parts, _axis(axis), "</svg>"])


def heat_map(counts: Sequence[Sequence[int]], color: str) -> str:
    """An image element of counts on a grid, white for none and `color` (#rrggbb) for the most, a pixel a cell."""
    grid = np.array(counts, float)
    share = (grid / max(grid.max(), 1))[..., None]
    full = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    pixels = (255 * (1 - share) + full * share).round().astype(np.uint8)
    most = f"{100 * grid.max() / max(grid.sum(), 1):.1f}"
    return (
        f'<img class="heat" src="{data_uri(Image.fromarray(pixels), "PNG")}" '
        f'alt="map of clicks; the fullest cell holds {most} % of them">'
    )


def data_uri(picture: Image.Image, form: str) -> str:
    """A picture inside a `data:` address; `form` is PNG or JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **({"quality": 80, "optimize": True} if form == "JPEG" else {}))
    return f"data:image/{form.lower()};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _open(title: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'


def _grid(values: Sequence[float], highest: float, form: str) -> list[str]:
    """Level lines with their values at the left."""
    parts = []
    for value in values:
        y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / highest)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{LINE}"/>')
        parts.append(_text(LEFT - 6, y + 4, form.format(value), anchor="end", size=11))
    return parts


def _axis(words: str) -> str:
    return _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, words)


def _text(x: float, y: float, words: str, *, anchor: str = "middle", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{SOFT}">'
        f"{escape(words)}</text>"
    )
