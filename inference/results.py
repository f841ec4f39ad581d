"""From the predictions of a run to metrics.json, the ordered predictions.jsonl and report.html."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick import masks, metrics
from geoclick.clicks import Click
from geoclick.files import write_whole
from inference import records, report

if TYPE_CHECKING:
    from geoclick.datasets import Sample


def score_groups(samples: Sequence["Sample"], entries: Sequence[dict], protocol: dict) -> dict:
    """The scores of all samples, of each task and of each category, each with the interval of its mIoU.

    Returns:
        `scores`, `by_task` and `by_category`; samples without a category are in none.
    """
    groups = defaultdict(lambda: metrics.Scores(protocol["mode"]))
    for sample, entry in zip(samples, entries, strict=True):
        names = {("all", ""), ("task", sample.task), ("category", sample.category)} - {("category", "")}
        prediction, target, valid = masks.decode_rle(entry["mask"]), sample.mask, sample.valid
        for name in names:
            groups[name].add(prediction, target, valid)
    found = {}
    for name in sorted(groups):
        interval = metrics.bootstrap_interval(groups[name].ious, seed=protocol["seed"])
        found[name] = groups[name].result() | {"miou_interval": list(interval)}
    return {
        "scores": found["all", ""],
        "by_task": {name: block for (kind, name), block in found.items() if kind == "task"},
        "by_category": {name: block for (kind, name), block in found.items() if kind == "category"},
    }


def summarise(
    samples: Sequence["Sample"], entries: Sequence[dict], protocol: dict, *, seconds: float, resumed: int
) -> dict:
    """What metrics.json holds.

    Args:
        samples: in the dataset's order.
        entries: their lines of predictions.jsonl, in the same order.
        protocol: everything that decides the scores.
        seconds: time that predicting took in this run.
        resumed: predictions that an earlier run had made.
    """
    statuses = Counter(entry["status"] for entry in entries)
    asked = len(entries) - statuses["stored"]
    nothing = [entry for entry in entries if entry["task"] == "no_target"]
    alarms = sum(masks.area(entry["mask"]) > 0 for entry in nothing)
    missed = sum(masks.area(entry["mask"]) == 0 for entry in entries if entry["task"] != "no_target")
    return {
        **score_groups(samples, entries, protocol),
        "answers": {
            "by_status": dict(sorted(statuses.items())),
            "parse_rate": (statuses["ok"] + statuses["empty"]) / asked if asked else None,
            "dropped": sum(len(entry["dropped"]) for entry in entries),
        },
        "no_target": {
            "n": len(nothing),
            "accuracy": 1 - alarms / len(nothing) if nothing else None,
            "false_alarms": alarms,
            "targets_without_mask": missed,
        },
        "mean_clicks": sum(len(entry["clicks"]) for entry in entries) / len(entries),
        "seconds": seconds,
        "resumed": resumed,
        "protocol": protocol,
    }


def title(name: str, protocol: dict) -> str:
    """The name of a run on its report: its folder, who clicked, and on what."""
    who = protocol.get("adapter") or protocol.get("vlm") or "stored clicks"
    return f"{name}: {who} on {protocol['dataset']} {protocol['split']}"


def exhibit(sample: "Sample", entry: dict) -> report.Exhibit:
    """A sample with its prediction as the report's gallery shows it."""
    return report.Exhibit(
        sample_id=sample.sample_id,
        query=sample.query,
        task=sample.task,
        iou=entry["iou"],
        status=entry["status"],
        text=entry["text"],
        clicks=tuple(Click(*click) for click in entry["clicks"]),
        image=sample.read_image(),
        target=sample.mask,
        prediction=masks.decode_rle(entry["mask"]),
    )


def write(
    folder: Path, samples: Sequence["Sample"], entries: Sequence[dict], summary: dict, *, count: int
) -> None:
    """Write predictions.jsonl in the dataset's order, metrics.json and report.html."""
    ious = [entry["iou"] for entry in entries]
    predicted = [masks.area(entry["mask"]) > 0 for entry in entries]
    chosen = report.choose(ious, [entry["task"] for entry in entries], predicted, count)
    gallery = {name: [exhibit(samples[i], entries[i]) for i in indices] for name, indices in chosen.items()}
    page = report.render(title(folder.name, summary["protocol"]), summary, ious, gallery)
    write_whole(folder / records.PREDICTIONS, records.lines(entries))
    write_whole(folder / "report.html", page)
    write_whole(folder / "metrics.json", json.dumps(summary, indent=2) + "\n")


def line(summary: dict) -> str:
    """The result in one line for the terminal."""
    total = summary["scores"]
    low, high = total["miou_interval"]
    return (
        f"mIoU {total['miou']:.3f} ({low:.3f} to {high:.3f}), oIoU {total['oiou']:.3f}, "
        f"Pr@0.5 {total['pr@0.5']:.3f}, {total['n']} samples in {summary['seconds']:.1f} s"
    )
