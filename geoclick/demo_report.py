"""The page of `geoclick demo`: scores, curves, answers, failures, land cover maps, and the commands."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from geoclick import demo_figures, pages
from geoclick.demo_results import MAPS, RUNS, TASKS, Scores, Summary, miou_by_task
from geoclick.geo.reading import read_image
from geoclick.pages import charts, click_drawing, line_chart
from geoclick.pages.figures import data_uri
from geoclick.pages.line_chart import Curve, LineChart
from geoclick.scoring.records import Record

COLORS = {"base": "#9aa5ad", "lora_first": "#e0a458", "lora": "#33658a", "upper_bound": "#6a994e"}
"""Runs in the charts, with their colors."""

SHEET_WIDTH = 1136
"""Width in pixels to which the sheet of click sequences is reduced."""


def page(
    output: Path, scores: Mapping[str, Scores], summary: Summary, steps: Mapping[str, Sequence[str]]
) -> str:
    """The report as one HTML page.

    Args:
        output: the demo's folder.
        scores: of the runs by name.
        summary: the content of summary.json.
        steps: the arguments of each command.
    """
    records = demo_figures.read_records(output)
    map_colors, maps = demo_figures.map_figures(output / "land-cover", output / MAPS)
    return pages.render(
        "demo.html",
        title="GeoClick demo",
        summary=summary,
        runs=RUNS,
        tiles=_tiles(scores, summary),
        head=["", "mIoU", *TASKS.values(), "no target", "clicks"],
        rows=[
            [
                RUNS[name],
                *map(pages.number, (one["scores"]["miou"], *miou_by_task(one).values())),
                f"{one['mean_clicks']:.2f}",
            ]
            for name, one in scores.items()
        ],
        charts=[task_chart(scores), histogram(records["lora"]), *curves(output)],
        legend=[(RUNS[name], color) for name, color in COLORS.items()],
        colors=click_drawing.COLORS,
        gains=demo_figures.gains(output, records),
        failures=demo_figures.failures(output, records),
        sheet=sheet(output / "clicks" / "train" / "sheet.png"),
        maps=[
            [name, *(pages.number(miou.get(key)) for key in ("dense", "vote"))]
            for name, miou in summary["map_miou"].items()
        ],
        map_colors=map_colors,
        map_figures=maps,
        map_folder=MAPS,
        commands=[
            (shlex.join(("geoclick", *words)), f"{summary['steps'][name]:.0f} s")
            for name, words in steps.items()
        ],
    )


def _tiles(scores: Mapping[str, Scores], summary: Summary) -> list[tuple[str, str]]:
    """The most important values."""
    none = {name: pages.percent(one["no_target"]["accuracy"]) for name, one in scores.items()}
    return [
        *((pages.number(summary["miou"][name]), f"mIoU, {RUNS[name]}") for name in demo_figures.SHOWN),
        (none["base"], "of the queries without a target answered with none, base model"),
        (none["lora"], "the same, LoRA-tuned"),
        (f"{summary['seconds'] / 60:.0f} min", "for all commands on this machine"),
    ]


def task_chart(scores: Mapping[str, Scores]) -> tuple[str, Markup]:
    """The title and the chart of the mIoU by task."""
    title = "mIoU by task"
    series = [
        charts.Series(RUNS[name], color, [value or 0.0 for value in miou_by_task(scores[name]).values()])
        for name, color in COLORS.items()
    ]
    labels = [*TASKS.values(), "no target"]
    return title, charts.bar_chart(title, labels, series, "", top=1.0, form="{:.2f}")


def histogram(records: Mapping[str, Record]) -> tuple[str, Markup]:
    """The title and the chart of the IoU of the tuned model's samples with a target."""
    ious = [record["iou"] for record in records.values() if record["area"]]
    return "Samples with a target by IoU, LoRA-tuned", charts.iou_histogram(ious)


def curves(output: Path) -> list[tuple[str, Markup]]:
    """The titles and charts of the training loss, and of the IoU after each simulated click."""
    adapter = json.loads((output / "adapter" / "metrics.json").read_text(encoding="utf-8"))
    clicks = json.loads((output / "clicks" / "test" / "metrics.json").read_text(encoding="utf-8"))
    logged = _thinned([entry for entry in adapter["loss"] if "loss" in entry])
    loss = LineChart(
        "Loss of the LoRA training",
        "step",
        [f"{entry['step']}" for entry in logged],
        [Curve("loss", COLORS["lora"], [entry["loss"] for entry in logged])],
    )
    ious = clicks["mean_iou_after_clicks"]
    after = LineChart(
        "IoU after each simulated click",
        "clicks",
        [f"{number}" for number in range(1, len(ious) + 1)],
        [Curve("mean IoU of the test targets", COLORS["upper_bound"], ious)],
    )
    return [(chart.title, line_chart.svg(chart)) for chart in (loss, after) if chart.labels]


def _thinned(entries: Sequence[Mapping[str, float]], most: int = 12) -> list[Mapping[str, float]]:
    """At most `most` entries at equal distances, the first and the last among them."""
    places = np.linspace(0, len(entries) - 1, min(most, len(entries))).round().astype(int)
    return [entries[place] for place in places.tolist()]


def sheet(path: Path) -> str:
    """The sheet of click sequences as a `data:` address."""
    picture = Image.fromarray(read_image(path))
    picture.thumbnail((SHEET_WIDTH, 4 * SHEET_WIDTH))
    return data_uri(np.asarray(picture), quality=75)
