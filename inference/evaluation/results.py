"""From the records of a run to metrics.json: scores of all samples and of groups of them, and counts of answers."""

import json
from array import array
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from geoclick import masks
from geoclick.errors import GeoClickError, single_line
from geoclick.files import write_whole
from geoclick.geo.tiles import source
from geoclick.inference.evaluation.confusion import MapSums
from geoclick.inference.evaluation.ranking import Rankings
from geoclick.scoring import instances, metrics, query_kinds, records, semantic
from geoclick.scoring.intervals import bootstrap_interval
from geoclick.scoring.records import Record
from geoclick.segmenters.visibility import SmallTargets
from geoclick.tasks import TASKS

METRICS = "metrics.json"
SIZE_BOUNDS = (32**2, 96**2)
"""Pixels of a target from which it is medium, and large, as COCO counts objects."""
SIZES = ("small", "medium", "large")
MAX_FAILURES = 10
PARSED = ("ok", "repaired", "empty", "unparsable")
"""Statuses of the parser of a model's text; predictors without a model have others."""


def write(output: Path, protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Write metrics.json from the complete predictions.jsonl of a run folder; returns its content.

    Raises:
        GeoClickError: predictions.jsonl is cut short or broken.
    """
    path = output / records.PREDICTIONS
    with path.open("rb") as file:
        count = sum(1 for _ in file)
    if count != protocol["n"]:
        raise GeoClickError(
            f"{path} holds {count} of {protocol['n']} predictions; delete it and rerun the command."
        )
    try:
        summary = summarize(records.read(path), protocol)
    except (ValueError, KeyError, TypeError) as error:
        raise GeoClickError(f"{path} is broken ({error!r}); delete it and rerun the command.") from error
    write_whole(output / METRICS, json.dumps(summary, indent=2) + "\n")
    return summary


@dataclass
class Counts:
    """Counts of answers, whatever their scores.

    Attributes:
        n: samples.
        statuses: samples by status.
        dropped: clicks that were left out.
        cut: answers that reached the length limit.
        clicks: clicks that were decoded.
        without_target: samples without target.
        false_alarms: of these, samples with a mask.
        unanswered: of these, samples without an answer that can be read.
        missed: samples with a target and without a mask.
        sampled: sampled answers by status.
    """

    n: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    cut: int = 0
    clicks: int = 0
    without_target: int = 0
    false_alarms: int = 0
    unanswered: int = 0
    missed: int = 0
    sampled: Counter[str] = field(default_factory=Counter)

    def count(self, record: Record, masked: bool) -> None:
        """Count one record; `masked`: whether its predicted mask has any pixel."""
        self.n += 1
        self.statuses[record["status"]] += 1
        cut = records.CUT in record["dropped"]
        self.dropped += len(record["dropped"]) - cut
        self.cut += cut
        self.clicks += len(record["clicks"])
        self.without_target += not record["area"]
        self.false_alarms += masked and not record["area"]
        self.unanswered += not record["area"] and record["status"] in records.UNANSWERED
        self.missed += not masked and record["area"] > 0
        self.sampled.update(sample["status"] for sample in record.get("sampled", []))

    def result(self) -> dict[str, Any]:
        """`answers`, `no_target` and `mean_clicks`; a ratio of nothing is None."""
        wrong = self.false_alarms + self.unanswered
        return {
            "answers": {
                **_by_status(self.statuses),
                "dropped": self.dropped,
                **({"cut": self.cut} if self.cut else {}),
                **({"sampled": _by_status(self.sampled)} if self.sampled else {}),
            },
            "no_target": {
                "n": self.without_target,
                "accuracy": 1 - wrong / self.without_target if self.without_target else None,
                "false_alarms": self.false_alarms,
                "unanswered": self.unanswered,
                "targets_without_mask": self.missed,
            },
            "mean_clicks": self.clicks / self.n,
        }


def _by_status(statuses: Counter[str]) -> dict[str, dict[str, int] | float | None]:
    """Answers by status, and the share of those in the requested format among the model's; None without any."""
    parsed = sum(statuses[status] for status in PARSED)
    rate = (statuses["ok"] + statuses["empty"]) / parsed if parsed else None
    return {"by_status": dict(sorted(statuses.items())), "parse_rate": rate}


def size_of(area: int) -> str | None:
    """The size of a target of `area` pixels, one of SIZES; None without target."""
    return SIZES[bisect_right(SIZE_BOUNDS, area)] if area else None


def agreement(record: Record, masked: bool) -> metrics.Agreement:
    """How well mask and target of a record agree; `masked`: whether the predicted mask has any pixel."""
    return metrics.Agreement(
        record["iou"],
        record["intersection"],
        record["union"],
        record["boundary_iou"],
        answered=masked or (not record["union"] and record["status"] not in records.UNANSWERED),
    )


class Grouping(NamedTuple):
    """How samples are grouped.

    Attributes:
        order: the groups in the order of reports; groups that it lacks follow by name.
        groups_of: the groups of a record, none of them empty.
    """

    order: Sequence[str]
    groups_of: Callable[[Record], Sequence[str]]


def kinds_of(record: Record) -> list[str]:
    """The kind of a record's query, and whether its target has several parts."""
    kind = query_kinds.kind(record["query"], record["task"])
    return [kind, query_kinds.SEVERAL_PARTS] if "instances" in record else [kind]


PARTS = {
    "by_task": Grouping(TASKS, lambda record: [record["task"]]),
    "by_category": Grouping((), lambda record: [record["category"]] if record["category"] else []),
    "by_size": Grouping(SIZES, lambda record: [size] if (size := size_of(record["area"])) else []),
    "by_query_kind": Grouping((*query_kinds.KINDS, query_kinds.SEVERAL_PARTS), kinds_of),
}
"""The groupings of a summary, by their keys."""


def summarize(entries: Iterable[Record], protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The content of metrics.json; equal records in the same order give equal content.

    Args:
        entries: records, read once; a few numbers of each stay in memory.
        protocol: everything that decides the scores, with `mode` and `seed`.

    Returns:
        `scores`; the scores of the groups of each of PARTS; `size_bounds`; `answers`, `no_target`, `mean_clicks`;
        `instances` if targets have several parts, see geoclick/scoring/instances.py; `small_targets` if there is a
        segmenter; `ranking` if predictions have scores; of maps `confusion`, and
        `coverage` if they are from proposals; `protocol`. In mode semantic, which scores the complete set,
        `by_category` holds the classes and the other groupings are empty.

    Raises:
        GeoClickError: there are no records.
    """
    counts, small = Counts(), SmallTargets(protocol.get("segmenter") or "")
    maps, rankings = MapSums.of_classes(protocol.get("classes")), Rankings()
    found = instances.InstanceScores()

    def counted() -> Iterator[tuple[Record, bool]]:
        for record in entries:
            masked = masks.area(record["mask"]) > 0
            counts.count(record, masked)
            rankings.count(record)
            if "instances" in record:
                found.count(record["instances"])
            if small.segmenter:
                small.count(record["target"])
            if maps:
                maps.count(record)
            yield record, masked

    score = _score_set if protocol["mode"] == "semantic" else _score_samples
    blocks = score(counted(), protocol["mode"], protocol["seed"])
    result = {**blocks, "size_bounds": list(SIZE_BOUNDS), **counts.result()}
    if of_instances := found.result():
        result["instances"] = of_instances
    if small.segmenter:
        result["small_targets"] = small.result()
    if ranked := rankings.result():
        result["ranking"] = ranked
    if maps:
        result["confusion"] = maps.result()
        if covered := maps.coverage_result():
            result["coverage"] = covered
    return result | {"protocol": protocol}


@dataclass
class Group(metrics.Scores):
    """The running score of a group of samples.

    Attributes:
        images: index of the image of each sample.
    """

    images: "array[int]" = field(default_factory=lambda: array("q"))

    def count_in(self, image: int, sample: metrics.Agreement) -> None:
        """Count one sample of an image."""
        self.images.append(image)
        self.count(sample)


def _score_samples(entries: Iterable[tuple[Record, bool]], mode: str, seed: int) -> dict[str, Any]:
    """The scores of all samples and of each group, from records and whether each has a mask."""
    total, images = Group(mode), dict[str, int]()
    parts: dict[str, defaultdict[str, Group]] = {part: defaultdict(partial(Group, mode)) for part in PARTS}
    for record, masked in entries:
        sample, image = agreement(record, masked), images.setdefault(source(record["image"]), len(images))
        total.count_in(image, sample)
        for part, grouping in PARTS.items():
            for group in grouping.groups_of(record):
                parts[part][group].count_in(image, sample)
    blocks = {"scores": _block(total, seed)}
    for part, grouping in PARTS.items():
        groups = parts[part]
        names = [name for name in grouping.order if name in groups]
        names += sorted(groups.keys() - set(grouping.order))
        blocks[part] = {name: _block(groups[name], seed) for name in names}
    return blocks


def _block(group: Group, seed: int) -> dict[str, Any]:
    """The scores of one group, the means with 95 % intervals over images."""
    return group.result() | {
        "miou_interval": list(bootstrap_interval(group.ious, seed, images=group.images)),
        "boundary_iou_interval": list(bootstrap_interval(group.boundary_ious, seed, images=group.images)),
    }


@dataclass
class ClassPixels:
    """The scored pixels of a class over the complete set.

    Attributes:
        n: samples.
        intersection: pixels in target and prediction.
        union: pixels in either.
        target: pixels of the target.
    """

    n: int = 0
    intersection: int = 0
    union: int = 0
    target: int = 0

    def count(self, record: Record) -> None:
        """Count one record."""
        self.n += 1
        self.intersection += record["intersection"]
        self.union += record["union"]
        valid = record["valid"]
        self.target += record["area"] if valid is None else masks.common_area(record["target"], valid)

    def result(self) -> dict[str, float | None]:
        """`precision` and `recall`, None for a ratio of nothing, and `pixels`, those of the target."""
        predicted = self.union - self.target + self.intersection
        return {
            "precision": self.intersection / predicted if predicted else None,
            "recall": self.intersection / self.target if self.target else None,
            "pixels": self.target,
        }


def _score_set(entries: Iterable[tuple[Record, bool]], mode: str, seed: int) -> dict[str, Any]:
    """The scores of classes over the complete set."""
    pixels, samples = semantic.SemanticScores(), defaultdict[str, ClassPixels](ClassPixels)
    for record, _ in entries:
        pixels.count(source(record["image"]), record["category"], record["intersection"], record["union"])
        samples[record["category"]].count(record)
    scores = pixels.result(seed)
    intervals = scores.pop("per_class_interval")
    classes = {
        name: {
            "n": samples[name].n,
            "iou": iou,
            "iou_interval": intervals[name],
            **samples[name].result(),
        }
        for name, iou in scores["per_class"].items()
    }
    return {"scores": scores} | {part: {} for part in PARTS} | {"by_category": classes}


def line(summary: Mapping[str, Any]) -> str:
    """The result for the terminal: one line, a second one for instances, and in mode semantic one for the classes."""
    total = summary["scores"]
    where = f", scored on {scored_on}" if (scored_on := summary["protocol"].get("scored_on")) else ""
    if "per_class" not in total:
        found = summary.get("instances")
        return (
            f"mIoU {total['miou']:.3f} ({_between(total['miou_interval'])}), oIoU {total['oiou']:.3f}, "
            f"Pr@0.5 {total['pr@0.5']:.3f}, {total['n']} samples{where}"
            + (f"\n{instances.text(found)}" if found else "")
        )
    foreground = f", foreground IoU {_number(total['foreground_iou'])}" if "foreground_iou" in total else ""
    classes = ", ".join(f"{name} {_number(iou)}" for name, iou in total["per_class"].items())
    return (
        f"mIoU {_number(total['miou'])} ({_between(total['miou_interval'])}){foreground}, "
        f"{len(total['per_class'])} classes in {total['images']} images{where}\n{classes}"
    )


def failure_lines(output: Path, summary: Mapping[str, Any]) -> list[str]:
    """The answers that were cut and the images that the models could not take; at most MAX_FAILURES are named."""
    cut, count = summary["answers"].get("cut", 0), summary["answers"]["by_status"].get("failed", 0)
    limit = f"--max-new-tokens {summary['protocol'].get('max_new_tokens')}"
    lines = [f"cut at {limit}: {cut} answers; give a larger limit"] if cut else []
    if not count:
        return lines
    entries = records.read(output / records.PREDICTIONS)
    errors = {entry["image"]: entry.get("error", "") for entry in entries if entry["status"] == "failed"}
    lines += [f"failed and scored 0: {count} samples on {len(errors)} images"]
    lines += [
        f"  {single_line(f'{image}: {error}')}" for image, error in islice(errors.items(), MAX_FAILURES)
    ]
    return lines + ["  ..."] * (len(errors) > MAX_FAILURES)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _between(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
