"""What `geoclick demo` shows: its tables, summary and report."""

import json
from pathlib import Path
from typing import TypedDict

from geoclick.options import DENSE_METHODS

RUNS = {
    "base": "base model",
    "lora_first": "LoRA-tuned, first click",
    "lora": "LoRA-tuned",
    "upper_bound_first": "upper bound, first click",
    "upper_bound": "upper bound",
}
"""The evaluations and their names in the table."""

TASKS = {
    "referring": "referring",
    "reasoning": "reasoning",
    "hard": "hard",
    "all_of_a_kind": "all of a kind",
    "several_by_purpose": "several",
}
"""The tasks with targets and their names in the table."""

WIDTH = max(map(len, RUNS.values())) + 1
"""Width of the first column of the table."""

ORACLE = "oracle-proposals"

MAPS = "land-cover-maps"
"""Folder of the evaluation whose maps the page shows."""


class Scores(TypedDict):
    """What the table shows of a metrics.json."""

    scores: dict[str, float]
    by_task: dict[str, dict[str, float]]
    no_target: dict[str, float | None]
    mean_clicks: float


class Summary(TypedDict):
    """The content of summary.json: mIoU by run, samples, mIoU of the maps by method, seconds in total and by step."""

    miou: dict[str, float]
    samples: float
    map_miou: dict[str, dict[str, float]]
    seconds: float
    steps: dict[str, float]


def read_scores(output: Path) -> dict[str, Scores]:
    """The metrics of the evaluations."""
    return {name: json.loads((output / name / "metrics.json").read_text(encoding="utf-8")) for name in RUNS}


def miou_by_task(metrics: Scores) -> dict[str, float | None]:
    """The mIoU of each of TASKS, and the accuracy on samples without a target as `no_target`; None without samples."""
    by_task = {task: metrics["by_task"].get(task, {}).get("miou") for task in TASKS}
    return {**by_task, "no_target": metrics["no_target"]["accuracy"]}


def table(scores: dict[str, Scores]) -> str:
    """The scores of the evaluations as text, one row each."""
    heads = [f"{name:>{len(name) + 2}}" for name in ("mIoU", *TASKS.values(), "no target", "clicks")]
    rows = [f"{'':<{WIDTH}}" + "".join(heads)]
    for name, label in RUNS.items():
        metrics = scores[name]
        values = [metrics["scores"]["miou"], *miou_by_task(metrics).values()]
        cells = [
            *("nan" if value is None else f"{value:.3f}" for value in values),
            f"{metrics['mean_clicks']:.2f}",
        ]
        padded = [f"{cell:>{len(head)}}" for cell, head in zip(cells, heads, strict=True)]
        rows.append(f"{label:<{WIDTH}}" + "".join(padded))
    return "\n".join(rows)


def read_maps(output: Path) -> dict[str, dict[str, float]]:
    """The mIoU of each method, with `dense` labels and by the `vote` of proposals, and that of the oracle."""
    rows = json.loads((output / "maps" / "metrics.json").read_text(encoding="utf-8"))["rows"]
    methods: dict[str, dict[str, float]] = {name: {} for name in (*DENSE_METHODS, ORACLE)}
    for row in rows:
        features, select = row["setting"]["features"], row["setting"]["select"]
        if select == ORACLE:
            methods[ORACLE]["vote"] = row["miou"]
        else:
            methods[features][select] = row["miou"]
    return methods


def map_table(methods: dict[str, dict[str, float]]) -> str:
    """The scores of the training-free pipeline as text, one row for each method."""
    rows = [f"{'':<18}{'CLIP alone':>12}{'with SAM':>10}"]
    for name, miou in methods.items():
        alone, with_sam = (f"{miou[key]:.3f}" if key in miou else "" for key in ("dense", "vote"))
        rows.append(f"{name:<18}{alone:>12}{with_sam:>10}")
    return "\n".join(rows)


def summarize(
    scores: dict[str, Scores], seconds: dict[str, float], maps: dict[str, dict[str, float]]
) -> Summary:
    """The content of summary.json."""
    return {
        "miou": {name: scores[name]["scores"]["miou"] for name in RUNS},
        "samples": scores["lora"]["scores"]["n"],
        "map_miou": maps,
        "seconds": sum(seconds.values()),
        "steps": seconds,
    }
