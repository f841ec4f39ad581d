"""Score a checkpoint on a dataset: predictions, metrics and a report in one folder.

    geoclick evaluate --root data/scenes --split test --adapter runs/sft --output runs/evaluate

    accelerate launch --config_file accelerate_configs/multi_gpu.yaml -m inference.evaluate ...    on several GPUs

    geoclick evaluate --compare runs/a runs/b --output runs/a-and-b

A killed run goes on where it stopped: start the same command again.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from geoclick import __version__
from geoclick.command import Command
from geoclick.config import option, write_config
from geoclick.errors import UsageError
from geoclick.files import write_whole
from geoclick.jobs import processes
from geoclick.options import DatasetOptions, GenerationOptions

if TYPE_CHECKING:
    import numpy as np

    from geoclick.datasets import LeftOut, Sample
    from geoclick.inference.evaluation.dataset_scan import Survey
    from geoclick.inference.evaluation.predictors import Ask

EXAMPLE = "geoclick evaluate --root data/scenes --split test --adapter runs/sft --output runs/evaluate"


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(GenerationOptions, DatasetOptions):
    """Options of `geoclick evaluate`."""

    output: str = option(help="run folder; an unfinished one is continued")
    compare: tuple[str, ...] = option(
        (), help="two finished run folders on the same samples, instead of a new run"
    )
    split: str | None = option(
        None, help="split of the dataset; when none the one that is scored, mostly test"
    )
    predictor: str = option(
        "generative",
        choices=("generative", "oracle", "box", "center-point", "noisy"),
        help="generative: the VLM clicks; oracle: a click store does, the upper bound of clicks; box, center-point: "
        "the prompt is made from the true mask; noisy: the true mask with --noise of its pixels wrong",
    )
    clicks: str | None = option(None, help="click store of geoclick synth, for the oracle")
    noise: float = option(0.1, help="probability that a pixel of the noisy predictor is wrong", minimum=0)
    mode: str | None = option(
        None,
        choices=("native", "rmsin", "segearth-r1", "think2seg", "semantic"),
        help="whose scoring; when none semantic for sets of land cover, else native",
    )
    skip_broken: bool = option(False, help="score what can be read, and count the rest in the protocol")
    temperature: float = option(0.0, help="0 takes the likeliest token", minimum=0)
    batch_size: int = option(16, help="samples answered together", minimum=1)
    limit: int | None = option(None, help="only the first samples of the split", minimum=1)
    gallery: int = option(6, help="samples in each group of the report's gallery", minimum=0)
    seed: int = option(0, help="of sampling, of noise and of the bootstrap", minimum=0)


def resolved(options: EvaluateOptions) -> EvaluateOptions:
    """The options with everything decided that the dataset and the mode decide; raises UsageError for nonsense."""
    from geoclick import datasets
    from geoclick.datasets.benchmarks import BENCHMARKS
    from geoclick.scoring import metrics

    if options.noise > 1:
        raise UsageError(f"--noise is a probability, at most 1, not {options.noise}.")
    known = BENCHMARKS.get(options.dataset)
    semantic = known is not None and known.task == "semantic"
    mode = options.mode or ("semantic" if semantic else "native")
    if mode == "semantic" and not semantic:
        raise UsageError(
            f"--mode semantic scores classes over a whole set, and {options.dataset} has none; choose another mode."
        )
    return replace(
        options,
        root=datasets.root_of(options.dataset, options.root),
        split=options.split or (known.split if known else "test"),
        mode=mode,
        question=options.question or metrics.MODES[mode].question or "all",
    )


def read_samples(options: EvaluateOptions, left_out: "list[LeftOut] | None" = None) -> "Iterator[Sample]":
    """The samples to score, in the dataset's order; with a list for what is left out, broken ones are passed over."""
    from geoclick import datasets

    def tell(item: "LeftOut") -> None:
        if not options.skip_broken:
            datasets.raise_failures(item)
        if left_out is not None:
            left_out.append(item)

    stream = datasets.read(
        options.dataset, options.root, options.split, options=options.reading(), on_left_out=tell
    )
    return islice(stream, options.limit)


def counted(samples: "Iterable[Sample]") -> "Iterator[Sample]":
    """The samples, their number shown as they come: a large set takes minutes to look through."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = SpinnerColumn(), TextColumn("looking at the samples: {task.completed:,.0f}")
    shown = {"console": Console(stderr=True), "transient": True, "disable": not processes.is_first()}
    with Progress(*columns, **shown) as bar:
        line = bar.add_task("", total=None)
        for sample in samples:
            bar.advance(line)
            yield sample


def describe(
    options: EvaluateOptions, found: "Survey", left_out: "Sequence[LeftOut]", segmenter: Any, predictor: dict
) -> dict:
    """The protocol: everything that decides the scores, by which a run is continued or refused."""
    from geoclick.scoring import metrics

    broken, by_choice = Counter(), Counter()
    for item in left_out:
        (broken if item.error else by_choice)[item.reason] += item.count
    models = {"segmenter": None}
    if segmenter is not None:
        from geoclick.segmenters import clicking

        models = {
            "segmenter": segmenter.name,
            "segmenter_sha256": segmenter.sha256,
            "decode": options.decode,
            "policy": clicking.Prompting().name,
        }
    return {
        "dataset": options.dataset,
        "root": options.root,
        "split": options.split,
        "n": len(found.ids),
        "images": found.images,
        "smallest_image": list(found.sizes[0]),
        "largest_image": list(found.sizes[1]),
        "images_sha256": found.images_sha256,
        "samples_sha256": found.samples_sha256,
        "broken_and_skipped": dict(broken),
        "left_out": dict(by_choice),
        "mode": options.mode,
        "scored_side": metrics.MODES[options.mode].side,
        "question": options.question,
        "question_seed": options.question_seed if options.question == "random" else None,
        "predictor": options.predictor,
        **predictor,
        **models,
        "batch_size": options.batch_size,
        "seed": options.seed,
        "geoclick": __version__,
    }


def read_images(samples: "Sequence[Sample]") -> "list[np.ndarray]":
    """The image of each sample; one that several samples share is read once and is the same array."""
    read = {}
    for sample in samples:
        if sample.image not in read:
            read[sample.image] = sample.read_image()
    return [read[sample.image] for sample in samples]


def run(options: EvaluateOptions) -> None:
    """Evaluate, or compare two evaluations."""
    output = Path(options.output)
    if options.compare:
        from geoclick.inference.reports import comparison

        if len(options.compare) != 2:
            raise UsageError("--compare takes two run folders, such as --compare runs/a runs/b.")
        first, second = map(Path, options.compare)
        result = comparison.compare(first, second, output, gallery=options.gallery, seed=options.seed)
        print(f"{comparison.text(result)}\nreport: {output / comparison.PAGE}")
        return
    from geoclick.inference.evaluation import run_folder
    from geoclick.inference.evaluation.dataset_scan import survey
    from geoclick.inference.evaluation.predictors import PREDICTORS, WITHOUT_MODELS

    options = resolved(options)
    left_out: list[LeftOut] = []
    found = survey(counted(read_samples(options, left_out)))
    segmenter = None
    if options.predictor not in WITHOUT_MODELS:
        options = replace(options, device=processes.device(options.device))
        segmenter = options.load_segmenter()
    predictor, ask = PREDICTORS[options.predictor](options, found, segmenter)
    protocol = describe(options, found, left_out, segmenter, predictor)
    claims = run_folder.join(output, protocol)
    if claims is not None:
        with claims, processes.one_voice(output / run_folder.FOLDER, output):
            timing = answer(options, ask, claims, total=len(found.ids))
            if processes.is_first():
                write_config(options, output)
                write_whole(output / "run.json", json.dumps(timing, indent=2) + "\n")
                run_folder.finish(output)
    if processes.is_first():
        conclude(output, protocol, gallery=options.gallery)


def answer(options: EvaluateOptions, ask: "Ask", claims: BinaryIO, *, total: int) -> dict:
    """Answer all samples together with the other processes; returns what is told of it in run.json."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from geoclick.inference.evaluation import run_folder, scoring
    from geoclick.inference.evaluation.predictors import WITHOUT_MODELS

    output = Path(options.output)
    resumed, began = run_folder.count(output), time.perf_counter()

    def lines(batch: "list[tuple[int, Sample]]") -> list[dict]:
        samples, images = [sample for _, sample in batch], []
        if options.predictor not in WITHOUT_MODELS:
            import torch

            # Of the batch alone, so that a resumed run draws what an uninterrupted one does.
            torch.manual_seed(options.seed + batch[0][0])
            images = read_images(samples)
        return [
            scoring.score_sample(sample, prediction, options.mode)
            for sample, prediction in zip(samples, ask(samples, images), strict=True)
        ]

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not processes.is_first()) as bar:
        line = bar.add_task(f"evaluate {options.predictor}", total=total)
        run_folder.answer(
            output,
            lambda: run_folder.split(read_samples(options), options.batch_size),
            claims,
            batch_size=options.batch_size,
            ask=lines,
            advance=partial(bar.advance, line),
        )
    seconds = time.perf_counter() - began
    return {
        "samples": total,
        "resumed": resumed,
        "seconds": seconds,
        "samples_per_second": (total - resumed) / seconds,
        "processes": processes.count(),
    }


def conclude(output: Path, protocol: dict, *, gallery: int) -> None:
    """From whole predictions to metrics.json, report.html and model-index.yaml; and the result in a line."""
    from geoclick.datasets.benchmarks import TITLES
    from geoclick.inference.evaluation import results, run_folder
    from geoclick.inference.reports import evaluation_report, published_table
    from geoclick.scoring import model_index, records

    run_folder.clean(output)
    predictions = output / records.PREDICTIONS
    summary = results.summarise(records.read(predictions), protocol)
    write_whole(output / "metrics.json", json.dumps(summary, indent=2) + "\n")
    evaluation_report.write(output, summary, predictions, count=gallery)
    model_index.write(output, summary, TITLES)
    print(results.line(summary))
    if table := published_table.text(summary):
        print(f"\n{table}\n")
    print(f"report: {output / 'report.html'}")


main = Command(
    prog="geoclick evaluate",
    options=EvaluateOptions,
    run=run,
    description="Score a checkpoint on a dataset; writes predictions, metrics and a report.",
    example=EXAMPLE,
    around=processes.told_by_first,
)


if __name__ == "__main__":
    sys.exit(main())
