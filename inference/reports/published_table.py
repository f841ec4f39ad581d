"""A run's scores next to the published ones of its benchmark, with notes on whether they are comparable."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.inference.reports.published import Protocol, figures_of
from geoclick.pages import DASH
from geoclick.scoring.model_index import METRICS

GROUND_TRUTH_PREDICTORS = ("oracle", "box", "center-point", "noisy", "oracle-proposals")
"""Predictors that use the ground truth."""
TUNED = "With a tuned threshold, apart from the published protocol"
SECONDARY_NOTE = "* quoted from a secondary source"


@dataclass(frozen=True)
class TableRow:
    """A row of the table: a published method, or the run itself.

    Attributes:
        method: its name.
        values: metric to percent.
        note: whether it is comparable; of the run itself, how it was scored.
        source: publication; empty for the run.
        secondary: whether the values are quoted from another source.
        tuned: whether it is a run with another threshold than the published one, which tables keep apart.
    """

    method: str
    values: dict[str, float] = field(default_factory=dict)
    note: str = ""
    source: str = ""
    secondary: bool = False
    tuned: bool = False


def comparability(published: Protocol, own: Mapping[str, Any]) -> str:
    """Whether scores of a published protocol are comparable with a run's, in one line.

    Args:
        published: the protocol of the published scores.
        own: the protocol in metrics.json of the run.

    Returns:
        `different protocol: ...` with the differences, `comparability unknown: ...` where no difference is known but
        the protocol is not fully known, or `comparable, as far as known`.
    """
    differences = []
    if published.mode and published.mode != own["mode"]:
        differences.append(f"mode {published.mode}, here {own['mode']}")
    if published.question and published.question != own.get("question"):
        differences.append(f"question {published.question}, here {own.get('question', 'all')}")
    benchmark = BENCHMARKS[own["dataset"]]
    here, unit = (own["images"], "images") if benchmark.task == "semantic" else (own["n"], "samples")
    if own["split"] == benchmark.split and benchmark.count not in (None, here):
        differences.append(f"{benchmark.count:,} {unit}, here {here:,}")
    if published.mode == "semantic":
        if own.get("clip") == "embedded":
            differences.append("CLIP ViT-B/16, here the embedded CLIP")
        if own.get("threshold_source") == "tuned":
            differences.append(f"threshold {benchmark.threshold:g}, here {own['threshold']:g}")
    unknown = [published.unknown] if published.unknown else []
    if differences:
        answer = f"different protocol: {'; '.join(differences + unknown)}"
    elif unknown:
        answer = f"comparability unknown: {published.unknown}"
    else:
        answer = "comparable, as far as known"
    return f"{answer} ({published.note})" if published.note else answer


def rows(summary: Mapping[str, Any]) -> list[TableRow]:
    """The published methods of a run's benchmark and split, then the run; empty if nothing is published.

    Args:
        summary: the content of metrics.json of the run.
    """
    own, scores = summary["protocol"], summary["scores"]
    methods: dict[str, TableRow] = {}
    for figure in figures_of(own["dataset"], own["split"]):
        note = comparability(figure.protocol, own)
        row = TableRow(figure.method, {}, note, figure.source, figure.secondary)
        methods.setdefault(figure.method, row).values[figure.metric] = figure.value
    if not methods:
        return []
    values = {
        metric: round(100 * scores[metric], 1)
        for metric in metrics(methods.values())
        if scores.get(metric) is not None
    }
    notes = [f"mode {own['mode']}"]
    if "question" in own and own["mode"] != "semantic":
        notes.append(f"questions: {own['question']}")
    if own["predictor"] in GROUND_TRUTH_PREDICTORS:
        notes.append("uses the ground truth: a reference, not a result")
    if own["predictor"] == "oracle-proposals":
        notes.append("the majority true class of each proposal, not the Oracle of the paper")
    source = own.get("threshold_source")
    if source:
        notes.append(f"threshold {own['threshold']:g} ({source})")
    name = f"this run ({own['predictor']})"
    return [*methods.values(), TableRow(name, values, ", ".join(notes), tuned=source == "tuned")]


def metrics(table: Iterable[TableRow]) -> list[str]:
    """The metrics that any row has, in the order of METRICS."""
    shown = {metric for row in table for metric in row.values}
    return [metric for metric in METRICS if metric in shown]


def percent(row: TableRow, metric: str, missing: str = DASH) -> str:
    """A value of a row in percent with one digit, or with two where it has two."""
    if metric not in row.values:
        return missing
    text = f"{row.values[metric]:.2f}"
    return text[:-1] if text.endswith("0") else text


def text(summary: Mapping[str, Any]) -> str:
    """`rows` as a table for the terminal, in percent, with notes below it; empty if nothing is published."""
    table = rows(summary)
    if not table:
        return ""
    columns = metrics(table)
    notes = list(dict.fromkeys(row.note for row in table))
    title = f"{BENCHMARKS[summary['protocol']['dataset']].title} {summary['protocol']['split']}, percent"
    names = [row.method + " *" * row.secondary for row in table]
    width = max(map(len, [title, *names]))
    lines = [f"{title:<{width}}" + "".join(f"{METRICS[metric]:>16}" for metric in columns)]
    for name, row in zip(names, table, strict=True):
        if row.tuned:
            lines.append(f"{TUNED}:")
        cells = (f"{percent(row, metric, missing=''):>16}" for metric in columns)
        lines.append(f"{name:<{width}}{''.join(cells)}  [{notes.index(row.note) + 1}]")
    lines += [f"[{i}] {note}" for i, note in enumerate(notes, start=1)]
    if any(row.secondary for row in table):
        lines.append(SECONDARY_NOTE)
    return "\n".join(lines)
