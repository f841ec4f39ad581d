"""Score a checkpoint on a dataset: predictions, metrics and a report in one folder.

    geoclick evaluate --root data/scenes --split test --adapter runs/sft --output runs/evaluate

    geoclick evaluate --dataset loveda --root data/loveda --predictor contrastive --output runs/loveda

    accelerate launch --config_file accelerate_configs/multi_gpu.yaml -m inference.evaluate ...    on several GPUs

    geoclick evaluate --engine ray ...                        on a Ray cluster, or on this machine as one

An interrupted run continues when the same command is run again.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoclick import output_folder
from geoclick.command import Command, print_next
from geoclick.inference.evaluation.options import EvaluateOptions, ResolvedOptions, resolve
from geoclick.jobs import failures, processes

if TYPE_CHECKING:
    from geoclick.inference.evaluation.answering import Engine
    from geoclick.inference.evaluation.dataset_scan import DatasetScan

EXAMPLE = (
    "geoclick evaluate --root data/scenes --split test --adapter runs/sft --output runs/evaluate\n"
    "  geoclick evaluate --dataset loveda --root data/loveda --predictor contrastive --output runs/loveda"
)


def run(options: EvaluateOptions) -> None:
    """Evaluate; with `--compare`, compare two evaluations."""
    if options.compare:
        compare(options)
        return
    output = Path(options.output)
    output_folder.check(output, "evaluate")
    resolved = resolve(options)
    if resolved.backend == "openai":
        from geoclick.inference.backends import openai

        openai.check(resolved)
    elif resolved.backend == "vllm":
        from geoclick.inference.backends import vllm_loading

        vllm_loading.check(resolved)
    from geoclick.inference.evaluation.dataset_scan import scan_dataset

    scan = scan_dataset(resolved)
    if scan.left_out and processes.is_first():
        print("reader: " + ", ".join(f"{count:,} {reason}" for reason, count in scan.left_out.items()))
    if scan.broken and processes.is_first():
        counts = ", ".join(f"{count:,} ({reason})" for reason, count in scan.broken.items())
        print(f"skipped as broken: {counts}")
    if resolved.by_image and processes.is_first():
        print_complete_images(resolved, len(scan.ids))
    processes.print_loading(f"the predictor {resolved.predictor} for {len(scan.ids):,} samples")
    from geoclick.vlms import adapter, bitsandbytes_import, quantization

    if not quantization.kind_of(resolved.quantise, resolved.adapter):
        bitsandbytes_import.leave_out(adapter.base_of(resolved.vlm, resolved.adapter))
    from geoclick.inference.evaluation import engines

    with engines.opened(resolved, scan) as engine:
        answer(resolved, scan, engine)


def answer(options: ResolvedOptions, scan: "DatasetScan", engine: "Engine") -> None:
    """Answer the samples, or continue, and write the results.

    Args:
        options: of the run.
        scan: of its samples.
        engine: with the models.
    """
    from geoclick.inference.evaluation import answering, protocol, results, run_folder, server_requests

    output = Path(options.output)
    rules = protocol.describe(options, scan, engine.about)
    newest = protocol.newest(scan, options.adapter)
    if rules.get("threshold") and processes.is_first():
        limit, source = rules["threshold"], rules["threshold_source"]
        print(
            f"Pixels without a class of probability {limit:g} ({source}) or more are {rules['background']!r}."
        )
    folder = run_folder.EvaluationFolder(output, rules, newest)
    if options.retry_failed:
        server_requests.forget_failed(folder)
    with folder.open() as claims:
        if claims:
            answering.complete(options, engine, claims, total=len(scan.ids), picked=scan.picked)
        if processes.is_first():
            if options.backend == "openai":
                sums = server_requests.finish(output, options.image_side)
                rules |= {f"server_{name}": value for name, value in sums.items()}
                print("\n".join(server_requests.lines(sums)))
            report(output, results.write(output, rules), gallery=options.gallery)


def print_complete_images(options: ResolvedOptions, count: int) -> None:
    """Print how many samples `--limit` and `--first` give where images are complete, unless it is their number."""
    for flag, number in (("limit", options.limit), ("first", options.first)):
        if number is not None and number != count:
            print(
                f"--{flag} {number} gives {count:,} samples: {options.predictor} predicts complete images with all "
                "their classes."
            )


def report(output: Path, summary: Mapping[str, Any], *, gallery: int) -> None:
    """Write report.html and model-index.yaml from a finished run's folder, and print the scores.

    Args:
        output: the run folder.
        summary: the content of its metrics.json.
        gallery: samples in each group of the report's gallery.
    """
    from geoclick.datasets.benchmarks import TITLES
    from geoclick.inference.evaluation import results
    from geoclick.inference.reports import evaluation_report, published_table
    from geoclick.scoring import model_index, records
    from geoclick.segmenters import visibility

    evaluation_report.write(output, summary, output / records.PREDICTIONS, count=gallery)
    model_index.write(output, summary, TITLES)
    print(results.line(summary))
    for message in results.failure_lines(output, summary):
        print(message)
    if warning := visibility.text(summary.get("small_targets")):
        print(f"warning: {warning}")
    if table := published_table.text(summary):
        print(f"\n{table}\n")
    print(f"report: {output / evaluation_report.NAME}")
    print_next("compare", "OTHER_RUN", output, "--output", f"{output}-compared")


def compare(options: EvaluateOptions) -> None:
    """Compare the two evaluations of `--compare`, as `geoclick compare` does."""
    from geoclick.inference import compare as command

    command.run(
        command.CompareOptions(
            runs=options.compare, output=options.output, gallery=options.gallery, seed=options.seed
        )
    )


main = Command(
    prog="geoclick evaluate",
    options=EvaluateOptions,
    run=run,
    description="Score a checkpoint on a dataset; writes predictions, metrics and a report.",
    example=EXAMPLE,
    around=failures.reported_by_first,
)


if __name__ == "__main__":
    sys.exit(main())
