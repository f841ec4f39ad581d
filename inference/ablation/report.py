"""What an ablation writes: one table in Markdown and CSV, the figures as JSON, the curves as PNG, and one HTML page."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from geoclick import files, pages
from geoclick.images import write_png
from geoclick.inference.ablation.measure import Row
from geoclick.inference.ablation.plan import AXES, Value, shown, title
from geoclick.inference.ablation.rows import Measured, Table
from geoclick.pages import line_chart
from geoclick.pages.line_chart import Curve, LineChart
from geoclick.yaml_file import Yaml

METRICS, MARKDOWN, CSV, PAGE, CURVES = "metrics.json", "table.md", "table.csv", "report.html", "curves.png"

MIOU, ORACLE, COVERAGE = "#33658a", "#d08a1d", "#9aa5ad"
COLUMNS = ("setting", "select", "mIoU", "95 % interval", "covered", "proposals", "seconds", "CPU seconds")


class AxisRow(NamedTuple):
    """A value of an axis.

    Attributes:
        value: as shown.
        is_base: whether it is that of the base.
        row: its scores.
        oracle: mIoU of the oracle with its proposals; None without proposals.
    """

    value: str
    is_base: bool
    row: Row
    oracle: float | None


class Section(NamedTuple):
    """What the page shows of an axis.

    Attributes:
        name: of the axis.
        title: above the chart.
        proposals: whether the axis changes the proposals or how they become a map.
        svg: the chart.
        rows: one for each value.
    """

    name: str
    title: str
    proposals: bool
    svg: Markup
    rows: list[AxisRow]


class Matrix(NamedTuple):
    """The mIoU over two axes of the grid.

    Attributes:
        rows: axis of the rows.
        columns: axis of the columns.
        head: values of the columns.
        lines: value of each row with its cells.
    """

    rows: str
    columns: str
    head: list[str]
    lines: list[list[str]]


def write(
    output: Path,
    table: Table,
    values: Mapping[str, list[Value]],
    grid: Mapping[str, list[Value]],
    data: dict[str, Yaml],
) -> None:
    """Write all files of an ablation.

    Args:
        output: folder.
        table: the rows.
        values: of the axes that were varied one at a time.
        grid: of the axes whose products were measured.
        data: the dataset, its hashes and what was left out.
    """
    classes = list(table.base["per_class"])
    cells = [_cells(one, classes) for one in table.measured]
    head = [*COLUMNS, *classes]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([head, *cells])
    files.write_whole(output / CSV, buffer.getvalue())
    lines = [head, ["---"] * len(head), *cells]
    files.write_whole(
        output / MARKDOWN, "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in lines)
    )
    charts = [chart(table, axis, own) for axis, own in values.items()]
    # One of an earlier command would show other rows.
    (output / CURVES).unlink(missing_ok=True)
    if charts:
        write_png(output / CURVES, line_chart.png(charts))
    rows = [{"place": title(one.step.place), "axes": _axes(one), **one.row} for one in table.measured]
    content = {"data": data, "best": title(table.best().step.place), "rows": rows}
    files.write_whole(output / METRICS, json.dumps(content, indent=1) + "\n")
    name = Path(str(data["root"])).name if data["dataset"] == "folder" else data["dataset"]
    page = pages.render(
        "ablation.html",
        title=f"Ablation on {name}, {data['split']}",
        base=table.base,
        base_oracle=table.oracle_of(()),
        best=table.best().row,
        best_title=title(table.best().step.place),
        data=data,
        axes=[
            _section(table, axis, own, one) for (axis, own), one in zip(values.items(), charts, strict=True)
        ],
        matrix=matrix(table, grid),
        head=head,
        cells=cells,
    )
    files.write_whole(output / PAGE, page)


def chart(table: Table, axis: str, values: list[Value]) -> LineChart:
    """The mIoU over an axis, with the oracle and the coverage where the axis changes them."""
    found = table.of_axis(axis, values)
    curves = [Curve("mIoU", MIOU, [row["miou"] for _, row in found])]
    if AXES[axis].proposals:
        oracles = [table.row(((axis, value),), oracle=True) for value, _ in found]
        curves.append(Curve("oracle-proposals", ORACLE, [row and row["miou"] for row in oracles]))
        covered = [row["coverage"] for _, row in found]
        if len(set(covered)) > 1:
            curves.append(Curve("covered", COVERAGE, covered))
    return LineChart(
        AXES[axis].title, axis, [shown(value) for value, _ in found], curves, joined=AXES[axis].numeric
    )


def matrix(table: Table, grid: Mapping[str, list[Value]]) -> Matrix | None:
    """The mIoU over the grid if it has two axes."""
    if len(grid) != 2:
        return None
    (first, rows), (second, columns) = grid.items()
    lines = []
    for one in rows:
        found = [table.row(((first, one), (second, other))) for other in columns]
        lines.append([shown(one), *(pages.number(row and row["miou"]) for row in found)])
    return Matrix(first, second, [shown(value) for value in columns], lines)


def line(measured: Measured) -> str:
    """A row for the terminal."""
    row = measured.row
    kind = "oracle-proposals, " if measured.step.is_oracle else ""
    covered = (
        "" if row["coverage"] is None else f", {row['proposals']:.1f} proposals cover {row['coverage']:.1%}"
    )
    return f"{kind}{title(measured.step.place)}: mIoU {pages.number(row['miou'])}{covered}, {row['seconds']:.1f} s"


def _section(table: Table, axis: str, values: list[Value], drawn: LineChart) -> Section:
    rows = []
    for value, row in table.of_axis(axis, values):
        oracle = None if row["coverage"] is None else table.oracle_of(((axis, value),))
        is_base = row["setting"] == table.base["setting"]
        rows.append(AxisRow(shown(value), is_base, row, oracle and oracle["miou"]))
    return Section(axis, AXES[axis].title, AXES[axis].proposals, line_chart.svg(drawn), rows)


def _axes(measured: Measured) -> dict[str, Yaml]:
    return {axis: str(value) if isinstance(value, tuple) else value for axis, value in measured.step.place}


def _cells(measured: Measured, classes: Sequence[str]) -> list[str]:
    row = measured.row
    return [
        title(measured.step.place),
        str(row["setting"]["select"]),
        pages.number(row["miou"]),
        pages.interval(row["miou_interval"]),
        pages.percent(row["coverage"]),
        pages.number(row["proposals"], 1),
        pages.number(row["seconds"], 1),
        pages.number(row["cpu_seconds"], 1),
        *_per_class(row, classes),
    ]


def _per_class(row: Row, classes: Sequence[str]) -> list[str]:
    return [pages.number(row["per_class"].get(name)) for name in classes]


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
