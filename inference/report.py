"""report.html of an evaluation: one file that needs no network, readable on a phone.

Every string that came from outside (queries, model texts, names, paths) passes `html.escape`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from geoclick.clicks import ClickSequence
from inference import draw

PICTURE = 360
"""Longest side of a gallery picture in pixels; as JPEG some 20 kB each."""

STYLE = """
:root { color-scheme: light; --ink: #1c2429; --soft: #5d6972; --line: #dfe3e6; --paper: #f7f8f8; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.25rem 1rem 3rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .75rem; }
p { margin: .25rem 0; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr));
  gap: .6rem; margin-top: 1.25rem; }
.tile, figure, .box { background: #fff; border: 1px solid var(--line); border-radius: 6px; }
.tile { padding: .65rem .8rem; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.25; font-weight: 600; }
.tile span { color: var(--soft); font-size: .85rem; }
.box { padding: .8rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { text-align: right; padding: .3rem .6rem; border-top: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr:first-child th { border-top: 0; color: var(--soft); font-weight: 500; }
td.wrap { text-align: left; white-space: normal; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
.chart { max-width: 42rem; }
.key { margin-top: 2.25rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr));
  gap: .8rem; }
figure { margin: 0; overflow: hidden; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 2px; }
.pair img { display: block; width: 100%; height: auto; }
figcaption { padding: .6rem .75rem .75rem; font-size: .9rem; overflow-wrap: anywhere; }
figcaption small { color: var(--soft); display: block; }
code { display: block; margin-top: .35rem; overflow-wrap: anywhere;
  font: .82rem/1.4 ui-monospace, "DejaVu Sans Mono", monospace; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin: 0 .3em; }
summary { cursor: pointer; color: var(--soft); }
"""


@dataclass(frozen=True)
class Exhibit:
    """A sample of the gallery: image uint8 [H, W, 3], masks bool [H, W], clicks in pixels of the image."""

    sample_id: str
    query: str
    task: str
    iou: float
    status: str
    text: str
    clicks: ClickSequence
    image: np.ndarray
    target: np.ndarray
    prediction: np.ndarray


def choose(
    ious: Sequence[float], tasks: Sequence[str], predicted: Sequence[bool], count: int
) -> dict[str, list[int]]:
    """Which samples the gallery shows, as indices: the best, the median and the worst, then false alarms.

    Best to worst are chosen among samples with a target, where an IoU says something; a false alarm is a
    sample without one for which a mask came. Ties go by the order of the samples.

    Args:
        ious: of each sample.
        tasks: of each sample; `no_target` marks those without a target.
        predicted: whether the predicted mask holds any pixel.
        count: samples a group.
    """
    order = sorted((i for i, task in enumerate(tasks) if task != "no_target"), key=lambda i: (-ious[i], i))
    middle = max(0, (len(order) - count) // 2)
    alarms = [i for i, task in enumerate(tasks) if task == "no_target" and predicted[i]]
    return {
        "Best": order[:count],
        "Median": order[middle : middle + count],
        "Worst": order[::-1][:count],
        "False alarms (nothing to find, yet a mask)": alarms[:count],
    }


def histogram(ious: Sequence[float]) -> str:
    """An inline SVG of how many samples fall in each tenth of IoU; 1.0 belongs to the last tenth."""
    counts, _ = np.histogram(np.clip(ious, 0, 1), bins=np.linspace(0, 1, 11))
    width, height, top, bottom = 560, 200, 20, 40
    slot, highest = width / 10, max(1, int(counts.max()))
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Histogram of IoU per sample">']
    for i, count in enumerate(counts.tolist()):
        bar = (height - top - bottom) * count / highest
        x, y = i * slot, height - bottom - bar
        parts.append(
            f"<g><title>IoU {i / 10:.1f} to {(i + 1) / 10:.1f}: {count}</title>"
            f'<rect x="{x + 2:.1f}" y="{y:.1f}" width="{slot - 4:.1f}" height="{bar:.1f}" fill="#33658a"/>'
            f'<text x="{x + slot / 2:.1f}" y="{y - 5:.1f}" text-anchor="middle" font-size="12">'
            f"{count}</text></g>"
        )
    base = height - bottom
    parts.append(f'<line x1="0" y1="{base}" x2="{width}" y2="{base}" stroke="#9aa5ad"/>')
    for i in range(11):
        anchor = "start" if i == 0 else "end" if i == 10 else "middle"
        parts.append(
            f'<text x="{i * slot:.1f}" y="{base + 16}" text-anchor="{anchor}" font-size="12" fill="#5d6972">'
            f"{i / 10:.1f}</text>"
        )
    parts.append(
        f'<text x="{width / 2}" y="{height - 6}" text-anchor="middle" font-size="12" fill="#5d6972">'
        "IoU of a sample</text></svg>"
    )
    return "".join(parts)


def _number(value: float | None, digits: int = 3) -> str:
    return "&ndash;" if value is None else f"{value:.{digits}f}"


def _interval(block: Mapping) -> str:
    low, high = block["miou_interval"]
    return f"{low:.3f} to {high:.3f}"


def _tiles(metrics: Mapping) -> str:
    scores, answers, none = metrics["scores"], metrics["answers"], metrics["no_target"]
    tiles = [
        (_number(scores["miou"]), f"mIoU (gIoU), 95 % interval {_interval(scores)}"),
        (_number(scores["oiou"]), "oIoU (cIoU)"),
        (_number(scores["pr@0.5"]), "share with IoU 0.5 or more"),
        (_number(none["accuracy"]), f"no-target accuracy, {none['false_alarms']} false of {none['n']}"),
        (_number(metrics["mean_clicks"], 1), "clicks an answer"),
        (str(scores["n"]), f"samples in {metrics['seconds']:.0f} s"),
    ]
    if answers["parse_rate"] is not None:
        tiles.insert(4, (_number(answers["parse_rate"]), "answers parsed as asked"))
    return "".join(f'<div class="tile"><b>{value}</b><span>{label}</span></div>' for value, label in tiles)


def _table(blocks: Mapping[str, Mapping], heading: str) -> str:
    head = "".join(
        f"<th>{h}</th>" for h in (heading, "n", "mIoU", "95 % interval", "oIoU", "Pr@0.5", "Pr@0.7", "Pr@0.9")
    )
    rows = []
    for name, block in blocks.items():
        # Without targets there is no intersection to sum.
        oiou = None if name == "no_target" else block["oiou"]
        numbers = map(_number, (oiou, block["pr@0.5"], block["pr@0.7"], block["pr@0.9"]))
        cells = (block["n"], _number(block["miou"]), _interval(block), *numbers)
        rows.append(f"<tr><td>{escape(name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f'<div class="box"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _figure(item: Exhibit) -> str:
    target = draw.data_uri(
        draw.panel(item.image, item.target, longest=PICTURE, colour=draw.TARGET_COLOUR), quality=70
    )
    answer = draw.data_uri(draw.panel(item.image, item.prediction, item.clicks, longest=PICTURE), quality=70)
    text = f"<code>{escape(item.text[:400])}</code>" if item.text else ""
    return (
        f'<figure><div class="pair"><img src="{target}" alt="target" loading="lazy">'
        f'<img src="{answer}" alt="prediction and clicks" loading="lazy"></div>'
        f"<figcaption><b>{item.iou:.3f}</b> &nbsp;{escape(item.query)}"
        f"<small>{escape(item.sample_id)} &middot; {escape(item.task)} &middot; {escape(item.status)}</small>"
        f"{text}</figcaption></figure>"
    )


def _dot(colour: tuple[int, int, int]) -> str:
    return f'<span class="dot" style="background:rgb{colour}"></span>'


def render(
    title: str, metrics: Mapping, ious: Sequence[float], gallery: Mapping[str, Sequence[Exhibit]]
) -> str:
    """The whole page as text.

    Args:
        title: names the run.
        metrics: what metrics.json holds.
        ious: of every sample, for the histogram.
        gallery: exhibits by group, in the order of the page.
    """
    statuses = metrics["answers"]["by_status"]
    counted = ", ".join(f"{escape(name)} {count}" for name, count in statuses.items())
    protocol = "".join(
        f'<tr><td>{escape(key)}</td><td class="wrap">{escape(str(value))}</td></tr>'
        for key, value in metrics["protocol"].items()
    )
    sections = "".join(
        f'<h2>{escape(name)}</h2><div class="gallery">{"".join(map(_figure, items))}</div>'
        for name, items in gallery.items()
        if items
    )
    key = (
        f'<p class="key">Left: {_dot(draw.TARGET_COLOUR)}target. Right: {_dot(draw.MASK_COLOUR)}predicted '
        f"mask with {_dot(draw.POSITIVE)}positive and {_dot(draw.NEGATIVE)}negative clicks, in their order. "
        "The number before a query is its IoU.</p>"
    )
    categories = metrics["by_category"]
    by_category = (
        f"<h2>By category</h2><details><summary>{len(categories)} categories</summary>"
        f"{_table(categories, 'category')}</details>"
        if categories
        else ""
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>Answers by status: {counted}.</p>"
        f'<div class="tiles">{_tiles(metrics)}</div>'
        f"<h2>By task</h2>{_table(metrics['by_task'], 'task')}"
        f'<h2>Samples by IoU</h2><div class="box chart">{histogram(ious)}</div>'
        f"{by_category}{key if sections else ''}{sections}"
        f'<h2>Protocol</h2><div class="box"><table>{protocol}</table></div></body></html>\n'
    )
