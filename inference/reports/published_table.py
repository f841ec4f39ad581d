"""A run's figures beside the published ones of its benchmark, marked by how like they were made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.inference.reports.published import Protocol, find
from geoclick.scoring.model_index import METRICS


def remark(protocol: Protocol, own: Mapping[str, Any]) -> str:
    """Whether figures scored by a protocol stand on the same ground as a run's: one line that opens with the answer.

    Args:
        protocol: of the published figure.
        own: the protocol that metrics.json of the run holds.

    Returns:
        `another protocol: ...` with what differs, `not known to be like for like: ...` where no difference is known but
        not all is said, or `like for like, as far as it is known`.
    """
    differs = []
    if protocol.mode and protocol.mode != own["mode"]:
        differs.append(f"mode {protocol.mode}, here {own['mode']}")
    if protocol.question and protocol.question != own.get("question"):
        differs.append(f"one {protocol.question} question, here {own.get('question', 'all')}")
    benchmark = BENCHMARKS[own["dataset"]]
    here, of = (own["images"], "images") if benchmark.task == "semantic" else (own["n"], "samples")
    if own["split"] == benchmark.split and benchmark.count not in (None, here):
        differs.append(f"{benchmark.count:,} {of}, here {here:,}")
    unknown = [protocol.unknown] if protocol.unknown else []
    if differs:
        answer = f"another protocol: {'; '.join(differs + unknown)}"
    elif unknown:
        answer = f"not known to be like for like: {protocol.unknown}"
    else:
        answer = "like for like, as far as it is known"
    return f"{answer} ({protocol.note})" if protocol.note else answer


@dataclass(frozen=True)
class Line:
    """A line of the table: a method, or the run itself.

    Attributes:
        method: its name.
        values: metric to per cent.
        remark: how like it was made; of the run itself, how it was made.
        source: where it was printed; empty for the run.
        second_hand: whether it was read elsewhere.
    """

    method: str
    values: dict[str, float] = field(default_factory=dict)
    remark: str = ""
    source: str = ""
    second_hand: bool = False


FROM_TRUTH = ("oracle", "box", "center-point", "noisy")
"""Predictors that see the ground truth: lines of reference, no results."""


def beside(summary: Mapping[str, Any]) -> list[Line]:
    """The published figures of a run's benchmark and split, then the run; empty where none is published.

    Args:
        summary: what metrics.json of the run holds.
    """
    own, scores = summary["protocol"], summary["scores"]
    lines: dict[str, Line] = {}
    for row in find(own["dataset"], own["split"]):
        new = Line(row.method, {}, remark(row.protocol, own), row.source, row.second_hand)
        lines.setdefault(row.method, new).values[row.metric] = row.value
    if not lines:
        return []
    shown = {metric for line in lines.values() for metric in line.values}
    values = {
        metric: round(100 * scores[metric], 1)
        for metric in METRICS
        if metric in shown and scores.get(metric) is not None
    }
    made = [f"mode {own['mode']}"]
    if "question" in own and own["mode"] != "semantic":
        made.append(f"questions: {own['question']}")
    if own["predictor"] in FROM_TRUTH:
        made.append("made from the ground truth: a line of reference, no result")
    return [*lines.values(), Line(f"this run ({own['predictor']})", values, ", ".join(made))]


def number(value: float) -> str:
    """A value in per cent with one digit, or with two where it has two."""
    shown = f"{value:.2f}"
    return shown[:-1] if shown.endswith("0") else shown


def text(summary: Mapping[str, Any]) -> str:
    """`beside` as a table for the terminal, in per cent, remarks below it; empty where nothing is published."""
    lines = beside(summary)
    if not lines:
        return ""
    metrics = [metric for metric in METRICS if any(metric in line.values for line in lines)]
    notes = list(dict.fromkeys(line.remark for line in lines))
    title = f"{BENCHMARKS[summary['protocol']['dataset']].title} {summary['protocol']['split']}, per cent"
    names = [line.method + " *" * line.second_hand for line in lines]
    width = max(map(len, [title, *names]))
    rows = [f"{title:<{width}}" + "".join(f"{METRICS[metric]:>16}" for metric in metrics)]
    for name, line in zip(names, lines, strict=True):
        cells = (f"{number(line.values[m]) if m in line.values else '':>16}" for m in metrics)
        rows.append(f"{name:<{width}}{''.join(cells)}  [{notes.index(line.remark) + 1}]")
    rows += [f"[{i}] {note}" for i, note in enumerate(notes, start=1)]
    if any(line.second_hand for line in lines):
        rows.append("* read in a listing of its source, not there")
    return "\n".join(rows)
