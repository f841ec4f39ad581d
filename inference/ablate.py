"""Ablation of the training-free pipeline: one table, curves and a page over thresholds, rules, proposals and models.

geoclick ablate --dataset loveda --root DATA --limit 100 --output runs/ablation

Each axis is varied on its own around a base, which is that of `geoclick evaluate --predictor contrastive` with the same
options; `--grid` measures all products of some axes. Proposals and CLIP's features are stored by content in `--cache`,
so that another run over thresholds, selections, rules and templates runs neither model. A row is written when it is
measured: an interrupted run continues with the next one.

geoclick ablate --max-clicks 6 --segmenters facebook/sam2.1-hiera-tiny facebook/sam2.1-hiera-large --root DATA ...

compares segmenters by clicks, as the paper's ablation of SAM's size: a row of the table for each of them.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from geoclick import output_folder
from geoclick.command import Command, print_next
from geoclick.inference.ablation import options as ablation_options
from geoclick.inference.ablation.options import AblateOptions
from geoclick.progress_bar import progress

if TYPE_CHECKING:
    from geoclick.inference.ablation.clicks import ClickRow
    from geoclick.inference.ablation.measure import Measurement
    from geoclick.inference.ablation.plan import Step
    from geoclick.inference.ablation.rows import RowFiles, Table
    from geoclick.inference.contrastive.cache import Cache

EXAMPLE = "geoclick ablate --dataset loveda --root DATA --limit 100 --output runs/ablation"


def run(options: AblateOptions) -> None:
    """Measure all settings and write the table, the curves and the page."""
    folder = Path(options.output)
    output_folder.check(folder, "ablate")
    root, split = ablation_options.place(options)
    with output_folder.opened(folder, "ablate"):
        output_folder.write_config(options, folder, "ablate")
        if options.max_clicks is not None:
            compare_segmenters(options, root, split)
            return
        measure(options, root, split)
    words = ["--dataset", options.dataset, "--root", root, "--split", split, "--predictor", "contrastive"]
    print_next("evaluate", *words, "--output", "runs/evaluate")


def measure(options: AblateOptions, root: Path, split: str) -> None:
    """Measure the rows that the output lacks, and write its files."""
    from geoclick.inference.ablation import data, report
    from geoclick.inference.ablation.measure import Measurement, Memory, Models
    from geoclick.inference.ablation.plan import steps
    from geoclick.inference.ablation.rows import RowFiles
    from geoclick.inference.contrastive.cache import GIB, Cache

    found, folder = data.read(options, root, split), Path(options.output)
    if found.left_out:
        print("reader: " + ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items()))
    cache = Cache(Path(options.cache), limit=round(options.cache_limit * GIB))
    models = Models(found.classes, cache, options.device)
    base = ablation_options.base(options, found.classes)
    complete = models.complete(base)
    siglip = models.clip(base.clip).is_siglip
    varied, notes = ablation_options.varied(options, found.classes, complete, siglip=siglip)
    for note in notes:
        print(note)
    values = {axis: ablation_options.values(options, axis, found.classes, complete) for axis in varied}
    grid = {axis: ablation_options.values(options, axis, found.classes, complete) for axis in options.grid}
    measurement = Measurement(found.images, models, Memory(), options.seed)
    table = measure_all(measurement, RowFiles(folder, found.decisive), steps(base, values, grid))
    report.write(folder, table, values, grid, found.about | {"notes": list(notes)})
    summarize(folder, table, cache)


def compare_segmenters(options: AblateOptions, root: Path, split: str) -> None:
    """Measure the segmenters that the output lacks by clicks, and write its files."""
    from geoclick.inference.ablation import click_report, clicks

    folder = Path(options.output)
    data = clicks.read(options, root, split)
    if data.left_out:
        print("left out: " + ", ".join(f"{count:,} {reason}" for reason, count in data.left_out.items()))
    answers = clicks.adapter_answers(options, data) if options.adapter else None
    rows: list[ClickRow] = []
    for name in dict.fromkeys(options.segmenters):
        rows.append(clicks.row_of(ablation_options.model(name), options, data, answers))
        print(click_report.line(rows[-1]))
    click_report.write(folder, rows, data)
    for name in (click_report.MARKDOWN, click_report.CSV, click_report.CURVES):
        print(folder / name)


def measure_all(measurement: "Measurement", files: "RowFiles", plan: "list[Step]") -> "Table":
    """The rows of a plan: those in the files, and the others measured and written.

    Raises:
        UsageError: a value of an axis is out of its range.
        GeoClickError: a model cannot be loaded, or an image cannot be read.
    """
    from geoclick.inference.ablation import report
    from geoclick.inference.ablation.measure import describe
    from geoclick.inference.ablation.rows import Measured, Table

    models = measurement.models
    # Before the first measurement, so that a wrong value or model ends the command at once.
    settings = [models.complete(step.setting) for step in plan]
    pipelines = [models.pipeline(setting) for setting in settings]
    measured = []
    with progress("ablate", len(plan)) as bar:
        for step, setting, loaded in zip(plan, settings, pipelines, strict=True):
            row = files.read(describe(loaded, setting))
            if row is None:
                row = measurement.row(loaded, setting)
                files.write(row)
                bar.print(report.line(Measured(step, row)))
            measured.append(Measured(step, row))
            bar.advance()
    return Table(measured)


def summarize(folder: Path, table: "Table", cache: "Cache") -> None:
    """Print the base, the best row, the files and the size of the cache."""
    from geoclick.inference.ablation import report
    from geoclick.inference.ablation.plan import title
    from geoclick.inference.contrastive.cache import GIB
    from geoclick.pages import number

    best = table.best()
    print(
        f"mIoU of the base {number(table.base['miou'])}, highest {number(best.row['miou'])} "
        f"({title(best.step.place)}); {len(table.measured)} rows on {table.base['images']} images"
    )
    for name in (report.MARKDOWN, report.CSV, report.CURVES, report.PAGE):
        if (folder / name).is_file():
            print(folder / name)
    print(f"cache: {cache.folder}, {cache.size / GIB:.2f} GiB of at most {cache.limit / GIB:g}")


main = Command(
    prog="geoclick ablate",
    options=AblateOptions,
    run=run,
    description="Measure the training-free pipeline over thresholds, selections, rules, templates, proposals and "
    "models, or segmenters by clicks: one table, curves and a page.",
    example=EXAMPLE,
)


if __name__ == "__main__":
    sys.exit(main())
