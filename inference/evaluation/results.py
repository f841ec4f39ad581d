"""From the records of a run to metrics.json: scores of all samples and of groups of them, and what was counted."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from geoclick import masks
from geoclick.datasets.sample import TASKS
from geoclick.scoring import metrics, query_kinds, semantic
from geoclick.scoring.intervals import bootstrap_interval

SIZE_BOUNDS = (32**2, 96**2)
"""Pixels of a target from which it is medium, and large, as COCO counts objects."""
SIZES = ("small", "medium", "large")
PARSED = ("ok", "repaired", "empty", "unparsable")
"""What the parser says of a model's text; predictors that ask no model have other words."""


@dataclass
class Counts:
    """What is counted of answers, whatever they score.

    Attributes:
        n: samples.
        statuses: samples by status.
        dropped: clicks that the parser left out.
        clicks: clicks that were decoded.
        nothing: samples without target.
        alarms: of these, samples with a mask.
        missed: samples with a target and without a mask.
    """

    n: int = 0
    statuses: Counter = field(default_factory=Counter)
    dropped: int = 0
    clicks: int = 0
    nothing: int = 0
    alarms: int = 0
    missed: int = 0

    def count(self, entry: dict, masked: bool) -> None:
        """Count one record, which has a mask or has none."""
        self.n += 1
        self.statuses[entry["status"]] += 1
        self.dropped += len(entry["dropped"])
        self.clicks += len(entry["clicks"])
        self.nothing += not entry["area"]
        self.alarms += masked and not entry["area"]
        self.missed += not masked and entry["area"] > 0

    def result(self) -> dict:
        """`answers`, `no_target` and `mean_clicks`; shares are None where there is nothing to share."""
        statuses = self.statuses
        asked = sum(statuses[status] for status in PARSED)
        return {
            "answers": {
                "by_status": dict(sorted(statuses.items())),
                "parse_rate": (statuses["ok"] + statuses["empty"]) / asked if asked else None,
                "dropped": self.dropped,
            },
            "no_target": {
                "n": self.nothing,
                "accuracy": 1 - self.alarms / self.nothing if self.nothing else None,
                "false_alarms": self.alarms,
                "targets_without_mask": self.missed,
            },
            "mean_clicks": self.clicks / self.n,
        }


def size_of(area: int) -> str | None:
    """The size of a target of so many pixels, one of SIZES; None where there is no target."""
    return SIZES[bisect_right(SIZE_BOUNDS, area)] if area else None


def agreement(entry: dict, masked: bool) -> metrics.Agreement:
    """How far mask and target of a record agree; `masked`: whether the mask holds any pixel."""
    return metrics.Agreement(
        entry["iou"],
        entry["intersection"],
        entry["union"],
        entry["boundary_iou"],
        answered=masked or (not entry["union"] and entry["status"] != "unparsable"),
    )


PARTS = {
    "by_task": (TASKS, lambda entry: entry["task"]),
    "by_category": ((), lambda entry: entry["category"]),
    "by_size": (SIZES, lambda entry: size_of(entry["area"])),
    "by_query_kind": (query_kinds.KINDS, lambda entry: query_kinds.kind(entry["query"], entry["task"])),
}
"""What samples are scored apart by: the order in which groups are told, and the group of a record, if it has one."""


def summarise(entries: Iterable[dict], protocol: dict) -> dict:
    """What metrics.json holds; the same records in the same order give the same.

    Args:
        entries: records, read once; a few numbers of each are kept.
        protocol: everything that decides the scores, with `mode` and `seed`.

    Returns:
        `scores`, and the same for the groups of each of PARTS (`size_bounds` says what sizes are); then `answers`,
        `no_target`, `mean_clicks` and `protocol`. In mode semantic, where only a whole set has a score, `by_category`
        holds the classes, and the other parts are empty.

    Raises:
        GeoClickError: there are no records.
    """
    counts = Counts()

    def counted() -> Iterator[tuple[dict, bool]]:
        for entry in entries:
            masked = masks.area(entry["mask"]) > 0
            counts.count(entry, masked)
            yield entry, masked

    score = _of_set if protocol["mode"] == "semantic" else _of_samples
    blocks = score(counted(), protocol["mode"], protocol["seed"])
    return {**blocks, "size_bounds": list(SIZE_BOUNDS), **counts.result(), "protocol": protocol}


def _of_samples(entries: Iterable[tuple[dict, bool]], mode: str, seed: int) -> dict:
    """The scores of all samples and of each group; with every record comes whether it has a mask."""
    whole, parts = metrics.Scores(mode), {part: defaultdict(partial(metrics.Scores, mode)) for part in PARTS}
    for entry, masked in entries:
        sample = agreement(entry, masked)
        whole.count(sample)
        for part, (_, group_of) in PARTS.items():
            if group := group_of(entry):
                parts[part][group].count(sample)
    blocks = {"scores": _block(whole, seed)}
    for part, (order, _) in PARTS.items():
        told = [*(name for name in order if name in parts[part]), *sorted(parts[part].keys() - set(order))]
        blocks[part] = {name: _block(parts[part][name], seed) for name in told}
    return blocks


def _block(scores: metrics.Scores, seed: int) -> dict:
    """One group's scores, each mean with its 95 % interval."""
    return scores.result() | {
        "miou_interval": list(bootstrap_interval(scores.ious, seed)),
        "boundary_iou_interval": list(bootstrap_interval(scores.boundary_ious, seed)),
    }


def _of_set(entries: Iterable[tuple[dict, bool]], mode: str, seed: int) -> dict:
    """The scores of classes over a whole set."""
    sets, asked = semantic.SemanticScores(), Counter()
    for entry, _ in entries:
        sets.count(entry["image"], entry["category"], entry["intersection"], entry["union"])
        asked[entry["category"]] += 1
    scores = sets.result(seed)
    intervals = scores.pop("per_class_interval")
    classes = {
        name: {"n": asked[name], "iou": iou, "iou_interval": intervals[name]}
        for name, iou in scores["per_class"].items()
    }
    return {"scores": scores} | {part: {} for part in PARTS} | {"by_category": classes}


def line(summary: dict) -> str:
    """The result for the terminal: one line, and in mode semantic one more for the classes."""
    total = summary["scores"]
    if "per_class" not in total:
        return (
            f"mIoU {total['miou']:.3f} ({_between(total['miou_interval'])}), oIoU {total['oiou']:.3f}, "
            f"Pr@0.5 {total['pr@0.5']:.3f}, {total['n']} samples"
        )
    foreground = f", foreground IoU {_number(total['foreground_iou'])}" if "foreground_iou" in total else ""
    classes = ", ".join(f"{name} {_number(iou)}" for name, iou in total["per_class"].items())
    return (
        f"mIoU {_number(total['miou'])} ({_between(total['miou_interval'])}){foreground}, "
        f"{len(total['per_class'])} classes in {total['images']} images\n{classes}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _between(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
