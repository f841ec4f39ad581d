"""What an ablation of clicks writes: one table in Markdown and CSV, the figures as JSON, and the curves as PNG."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from geoclick import files, pages
from geoclick.images import write_png
from geoclick.inference.ablation.clicks import ClickData, ClickRow
from geoclick.inference.ablation.report import CSV, CURVES, MARKDOWN, METRICS
from geoclick.pages import line_chart
from geoclick.pages.line_chart import Curve, LineChart

COLORS = ("#33658a", "#d08a1d", "#5b8c5a", "#8d4a8e", "#c0504d", "#3a9ea5", "#8a6d3b", "#6b7280")
"""Of the segmenters; more than these repeat."""


def write(output: Path, rows: Sequence[ClickRow], data: ClickData) -> None:
    """Write all files of an ablation of clicks."""
    table = lines(rows)
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(table)
    files.write_whole(output / CSV, buffer.getvalue())
    marked = [table[0], ["---"] * len(table[0]), *table[1:]]
    files.write_whole(output / MARKDOWN, "".join(f"| {' | '.join(line)} |\n" for line in marked))
    write_png(output / CURVES, line_chart.png(charts(rows)))
    content = {"data": data.decisive, "left_out": data.left_out, "rows": list(rows)}
    files.write_whole(output / METRICS, json.dumps(content, indent=1) + "\n")


def lines(rows: Sequence[ClickRow]) -> list[list[str]]:
    """The head of the table and a line for the clicks of the oracle, and of the adapter, of each segmenter."""
    count = len(rows[0]["oracle"])
    head = ["segmenter", "clicks of", *(f"{k} click{'s' * (k > 1)}" for k in range(1, count + 1))]
    found = [[*head, "samples", "CPU seconds"]]
    for row in rows:
        for source, values in (("oracle", row["oracle"]), ("adapter", row["adapter"])):
            if values is not None:
                numbers = map(pages.number, values)
                cells = [row["segmenter"].replace("|", "\\|"), source, *numbers, str(row["samples"])]
                found.append([*cells, pages.number(row["cpu_seconds"], 1)])
    return found


def charts(rows: Sequence[ClickRow]) -> list[LineChart]:
    """The curves of the oracle, and those of the adapter if there is one."""
    labels = [str(k + 1) for k in range(len(rows[0]["oracle"]))]
    names = [Path(row["segmenter"].partition("=")[0]).name for row in rows]
    sources = {
        "Oracle clicks": [row["oracle"] for row in rows],
        "Clicks of the adapter": [row["adapter"] for row in rows if row["adapter"] is not None],
    }
    return [
        LineChart(
            f"{title}: mIoU by segmenter",
            "clicks",
            labels,
            [
                Curve(name, COLORS[i % len(COLORS)], own)
                for i, (name, own) in enumerate(zip(names, values, strict=True))
            ],
        )
        for title, values in sources.items()
        if values
    ]


def line(row: ClickRow) -> str:
    """A row for the terminal."""
    first, last, count = row["oracle"][0], row["oracle"][-1], len(row["oracle"])
    adapter = "" if row["adapter"] is None else f"; adapter {row['adapter'][-1]:.3f}"
    return (
        f"{row['segmenter']}: mIoU {first:.3f} after 1 click, {last:.3f} after {count}{adapter}; "
        f"{row['samples']:,} samples, {row['cpu_seconds']:.1f} CPU seconds"
    )
