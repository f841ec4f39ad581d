"""The report of `geoclick demo`: tables, a chart, one sample of each task with all answers, and the commands."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from geoclick import masks, pages
from geoclick.clicks import Click
from geoclick.demo_results import RUNS, TASKS, Scores, Summary, miou_by_task
from geoclick.geo.reading import read_image
from geoclick.instances import of_mask
from geoclick.pages import charts, click_drawing
from geoclick.pages.figures import Figure, Picture, data_uri
from geoclick.scoring.records import Record

COLORS = {"base": "#9aa5ad", "lora": "#33658a", "upper_bound": "#6a994e"}
"""Runs in the chart, with their colors."""

SHOWN = ("base", "lora", "upper_bound")
"""Runs in the gallery."""

SIDE = 300
"""Longest side of a picture in pixels."""

MAX_TEXT = 200
"""Characters of an answer that are shown."""


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
    commands = [
        (shlex.join(("geoclick", *words)), f"{summary['steps'][name]:.0f} s") for name, words in steps.items()
    ]
    tasks = {**TASKS, "no_target": "no target"}
    series = [
        charts.Series(RUNS[name], color, [value or 0.0 for value in miou_by_task(scores[name]).values()])
        for name, color in COLORS.items()
    ]
    return pages.render(
        "demo.html",
        title="GeoClick demo",
        summary=summary,
        runs=RUNS,
        head=["", "mIoU", *tasks.values(), "clicks"],
        rows=[
            [
                RUNS[name],
                *map(pages.number, (one["scores"]["miou"], *miou_by_task(one).values())),
                f"{one['mean_clicks']:.2f}",
            ]
            for name, one in scores.items()
        ],
        chart=charts.bar_chart("mIoU by task", [*tasks.values()], series, "task", top=1.0, form="{:.2f}"),
        legend=[(RUNS[name], color) for name, color in COLORS.items()],
        figures=gallery(output),
        maps=[
            [name, *(pages.number(miou.get(key)) for key in ("dense", "vote"))]
            for name, miou in summary["map_miou"].items()
        ],
        commands=commands,
    )


def gallery(output: Path) -> list[Figure]:
    """One sample of each task, the first whose answers differ most, with the answers of all runs."""
    records = {name: _read(output / name / "predictions.jsonl") for name in SHOWN}
    figures = []
    for task in (*TASKS, "no_target"):
        samples = [ident for ident, record in records["lora"].items() if record["task"] == task]
        if samples:
            chosen = max(samples, key=lambda ident: _gain(records, ident))
            figures.append(_figure(output, [records[name][chosen] for name in SHOWN]))
    return figures


def _read(path: Path) -> dict[str, Record]:
    """The records of a run by sample."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {record["sample_id"]: record for record in map(json.loads, lines)}


def _gain(records: Mapping[str, Mapping[str, Record]], ident: str) -> float:
    """By how much the tuned model is better than the base on a sample; the first of equal samples is shown."""
    return records["lora"][ident]["iou"] - records["base"][ident]["iou"]


def _figure(output: Path, records: Sequence[Record]) -> Figure:
    """The target of a sample and the answers of SHOWN."""
    first = records[0]
    image = read_image(output / "scenes" / first["image"])
    target = click_drawing.panel(
        image, masks.decode_rle(first["target"]), longest=SIDE, color=click_drawing.TARGET_COLOR
    )
    pictures = [Picture(data_uri(target), "target")]
    for name, record in zip(SHOWN, records, strict=True):
        parts = [
            of_mask(tuple(Click(*click) for click in part["clicks"]), masks.decode_rle(part["mask"]))
            for part in record.get("parts", [])
        ]
        drawn = click_drawing.panel(
            image,
            masks.decode_rle(record["mask"]),
            [Click(*click) for click in record["clicks"]],
            longest=SIDE,
            instances=parts,
        )
        pictures.append(Picture(data_uri(drawn), f"{RUNS[name]}: IoU {record['iou']:.2f}"))
    texts = [(RUNS[name], record.get("text", "")) for name, record in zip(SHOWN, records, strict=True)]
    answers = [
        (name, text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ...") for name, text in texts if text
    ]
    return Figure(pictures, first["query"], notes=[first["task"].replace("_", " ")], answers=answers)
