"""report.html of an evaluation, from its records and its summary alone."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.files import write_whole
from geoclick.inference.reports import gallery, gallery_selection, published_table
from geoclick.pages import click_drawing, layout
from geoclick.scoring.model_index import METRICS

NAME = "report.html"
STAND_INS = {
    "oracle": "stored clicks",
    "box": "true boxes",
    "center-point": "centers of the true masks",
    "noisy": "true masks with noise",
}
"""Who answered where no model did."""
COLUMNS = {"miou": "mIoU", "miou_interval": "95 % interval", "oiou": "oIoU"} | {
    key: METRICS[key] for key in ("pr@0.5", "pr@0.7", "pr@0.9", "boundary_iou")
}
"""What a table of groups shows, as far as its blocks have it."""
GROUPS = {
    "task": "by_task",
    "target size": "by_size",
    "kind of query": "by_query_kind",
    "category": "by_category",
}
"""The groupings of a summary, by what one of their groups is."""
CLASSES = "By class, over the whole set"
MANY = 12
"""More groups than these are folded away."""


def histogram(ious: Sequence[float] | np.ndarray) -> str:
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


def title(name: str, protocol: Mapping[str, Any]) -> str:
    """The name of a run: its folder, who answered, and on what."""
    kind = protocol["dataset"]
    on = BENCHMARKS[kind].title if kind in BENCHMARKS else kind
    who = STAND_INS.get(protocol["predictor"]) or protocol.get("adapter") or protocol.get("vlm")
    return f"{name}: {who or protocol['predictor']} on {on} {protocol['split']}"


def _tiles(summary: Mapping[str, Any]) -> str:
    scores, answers, nothing = summary["scores"], summary["answers"], summary["no_target"]
    tiles = [
        (layout.number(scores["miou"]), f"mIoU, 95 % interval {layout.interval(scores['miou_interval'])}")
    ]
    if summary["protocol"]["mode"] == "semantic":
        if "foreground_iou" in scores:
            tiles.append(
                (layout.number(scores["foreground_iou"]), "foreground IoU, the published score of this set")
            )
        tiles += [(str(len(scores["per_class"])), "classes"), (str(scores["images"]), "images")]
    else:
        tiles[0] = (tiles[0][0], tiles[0][1].replace("mIoU", "mIoU (gIoU)"))
        tiles += [
            (layout.number(scores["oiou"]), "oIoU (cIoU)"),
            (layout.number(scores["pr@0.5"]), "share with IoU 0.5 or more"),
            (
                layout.number(nothing["accuracy"]),
                f"no-target accuracy, {nothing['false_alarms']} false of {nothing['n']}",
            ),
        ]
    if scores.get("boundary_iou") is not None:
        tiles.append((layout.number(scores["boundary_iou"]), "boundary IoU"))
    if answers["parse_rate"] is not None:
        tiles.append((layout.number(answers["parse_rate"]), "answers parsed as asked"))
        tiles.append((layout.number(summary["mean_clicks"], 1), "clicks an answer"))
    return layout.tiles([*tiles, (str(scores["n"]), "samples")])


def published(summary: Mapping[str, Any]) -> str:
    """The run below the published figures of its benchmark, in per cent; empty where there are none."""
    lines = published_table.beside(summary)
    if not lines:
        return ""
    metrics = [metric for metric in METRICS if any(metric in line.values for line in lines)]
    heads = "".join(f"<th>{METRICS[metric]}</th>" for metric in metrics)
    rows = [f'<tr><th>method</th>{heads}<th class="wrap">how like it was made</th></tr>']
    for i, line in enumerate(lines):
        name = escape(line.method) + (" *" if line.second_hand else "")
        cells = "".join(
            f"<td>{published_table.number(line.values[m]) if m in line.values else layout.DASH}</td>"
            for m in metrics
        )
        # A remark that holds for several lines stands once, across them.
        same = 0
        if i == 0 or lines[i - 1].remark != line.remark:
            same = next(
                (k for k, other in enumerate(lines[i:]) if other.remark != line.remark), len(lines) - i
            )
        remark = f'<td class="wrap soft" rowspan="{same}">{escape(line.remark)}</td>' if same else ""
        own = ' class="own"' if not line.source else ""
        rows.append(f"<tr{own}><td>{name}</td>{cells}{remark}</tr>")
    note = "<p>Per cent. * read in a listing of its source, not there.</p>"
    return layout.box("".join(rows)) + (
        note if any(line.second_hand for line in lines) else "<p>Per cent.</p>"
    )


def per_class(classes: Mapping[str, Mapping[str, Any]]) -> str:
    """IoU of each class over the whole set, with its interval and a bar."""
    rows = ["<tr><th>class</th><th>IoU</th><th>95 % interval</th><th></th></tr>"]
    for name, found in classes.items():
        meter = "" if found["iou"] is None else f'<i style="width:{100 * found["iou"]:.1f}%"></i>'
        cells = (layout.number(found["iou"]), layout.interval(found["iou_interval"]))
        rows.append(
            f"<tr><td>{escape(name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}"
            f'<td class="meter">{meter}</td></tr>'
        )
    return layout.box("".join(rows))


def _groups(summary: Mapping[str, Any]) -> str:
    """A section for each grouping of samples."""
    sizes = "<p>Medium from {:,} pixels, large from {:,}.</p>".format(*summary["size_bounds"])
    return "".join(
        layout.section(f"By {heading}", table(summary[part], heading) + (sizes if part == "by_size" else ""))
        for heading, part in GROUPS.items()
        if summary[part]
    )


def table(blocks: Mapping[str, Mapping[str, Any]], heading: str) -> str:
    """The scores of each group of samples; folded away where there are many."""
    shown = [key for key in COLUMNS if any(block.get(key) is not None for block in blocks.values())]
    rows = []
    for name, block in blocks.items():
        cells = []
        for key in shown:
            # Without targets there is no intersection to sum.
            value = None if (name, key) == ("no_target", "oiou") else block.get(key)
            cells.append(layout.interval(value) if key == "miou_interval" else layout.number(value))
        rows.append((escape(name), block["n"], *cells))
    content = layout.table((heading, "n", *(COLUMNS[key] for key in shown)), rows)
    return layout.folded(f"{len(blocks)} groups", content) if len(blocks) > MANY else content


def figure(record: Mapping[str, Any], root: Path) -> str:
    """A record: its target, and the predicted mask with the clicks."""
    image, missing = gallery.image_of(record, root)
    pictures = [
        gallery.picture(image, record, "target", label="target", color=click_drawing.TARGET_COLOR),
        gallery.picture(image, record, "mask", label="prediction"),
    ]
    told = [record[key] for key in ("sample_id", "category", "task", "status")]
    small = " &middot; ".join(escape(word) for word in told if word not in ("", record["query"]))
    caption = (
        f"<b>{record['iou']:.3f}</b> &nbsp;{escape(record['query'])}<small>{small}</small>"
        f"{gallery.text(record['text'])}"
    )
    return gallery.figure(pictures, caption, missing)


def render(name: str, summary: Mapping[str, Any], records: Path, *, count: int) -> str:
    """The whole page as text.

    Args:
        name: the run's.
        summary: what its metrics.json holds.
        records: its predictions.jsonl, whole.
        count: records in each group of the gallery.
    """
    protocol = summary["protocol"]
    semantic = protocol["mode"] == "semantic"
    by_status = ", ".join(f"{escape(status)} {n}" for status, n in summary["answers"]["by_status"].items())
    found, galleries = gallery_selection.survey(records, count), ""
    for heading, positions in gallery_selection.choose(found, count).items():
        chosen = gallery_selection.pick(records, found.offsets, positions)
        galleries += gallery.gallery(heading, [figure(record, Path(protocol["root"])) for record in chosen])
    rows = [(escape(key), escape(str(value))) for key, value in protocol.items()]
    body = (
        f"<p>Answers by status: {by_status}.</p>{_tiles(summary)}"
        + layout.section("Beside published figures", published(summary))
        + (layout.section(CLASSES, per_class(summary["by_category"])) if semantic else _groups(summary))
        + layout.section(
            "Samples by IoU" + (", where the class is there" if semantic else ""),
            f'<div class="box chart">{histogram(found.ious[found.targets] if semantic else found.ious)}</div>',
        )
        + (gallery.key("The number before a query is its IoU.") if galleries else "")
        + galleries
        + layout.section("Protocol", layout.table((), rows, words=True))
    )
    return layout.document(title(name, protocol), body)


def write(folder: Path, summary: Mapping[str, Any], records: Path, *, count: int) -> None:
    """Write report.html into a run's folder; arguments as in `render`."""
    write_whole(folder / NAME, render(folder.name, summary, records, count=count))
