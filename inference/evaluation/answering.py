"""Answering the samples of an evaluation: batches to predictions to records, together with the other processes."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from geoclick import output_folder
from geoclick.files import write_whole
from geoclick.inference.evaluation import run_folder, scoring
from geoclick.inference.evaluation.run_folder import Part
from geoclick.inference.evaluation.samples import read_images, read_samples
from geoclick.jobs import processes
from geoclick.progress_bar import progress
from geoclick.scoring.records import Record
from geoclick.yaml_file import Yaml

if TYPE_CHECKING:
    from geoclick.datasets import Sample
    from geoclick.inference.evaluation.options import ResolvedOptions
    from geoclick.inference.evaluation.predictors import Predictor


class Engine(Protocol):
    """Answers the parts of an evaluation, see engines.py."""

    @property
    def about(self) -> dict[str, Yaml]:
        """The predictor's part of the protocol."""
        ...

    def answer(
        self,
        output: Path,
        parts: Callable[[], Iterable[Part]],
        held: BinaryIO,
        advance: Callable[[int], None],
    ) -> dict[str, Yaml]:
        """Answer what is missing in the files of all parts.

        Args:
            output: the run folder.
            parts: returns a new stream of all parts.
            held: the claims of the run.
            advance: called with the number of further answers.

        Returns:
            What run.json says about the engine.
        """
        ...


def complete(
    options: "ResolvedOptions",
    engine: Engine,
    claims: BinaryIO,
    *,
    total: int,
    picked: "Sequence[Sample] | None" = None,
) -> None:
    """Answer what the run folder lacks and write predictions.jsonl, config.yaml and run.json.

    Args:
        options: of the run.
        engine: answers the samples.
        claims: of the run folder.
        total: number of samples.
        picked: the samples of a random pick; None reads all from the dataset.
    """
    output = Path(options.output)
    timing = answer(options, engine, claims, total=total, picked=picked)
    if processes.is_first():
        output_folder.write_config(options, output, "evaluate")
        write_whole(output / "run.json", json.dumps(timing, indent=2) + "\n")
        run_folder.finish(output, total)


def answer(
    options: "ResolvedOptions",
    engine: Engine,
    claims: BinaryIO,
    *,
    total: int,
    picked: "Sequence[Sample] | None" = None,
) -> dict[str, Yaml]:
    """Answer all samples together with the other processes; returns the content of run.json."""
    output = Path(options.output)
    resumed, start = run_folder.count(output), time.perf_counter()
    split = run_folder.split_by_image if options.by_image else run_folder.split

    def parts() -> Iterator[Part]:
        return split(read_samples(options) if picked is None else picked, options.batch_size)

    with progress(f"evaluate {options.predictor}", total, shown=processes.is_first()) as bar:
        about = engine.answer(output, parts, claims, bar.advance)
    seconds = time.perf_counter() - start
    return {
        "samples": total,
        "resumed": resumed,
        "seconds": seconds,
        "samples_per_second": (total - resumed) / seconds,
        **about,
    }


def answer_batch(
    options: "ResolvedOptions", predictor: "Predictor", batch: "list[tuple[int, Sample]]"
) -> list[Record]:
    """The records of a batch of samples, each with its position in the dataset."""
    samples = [sample for _, sample in batch]
    images = []
    if predictor.uses_models:
        import torch

        # Seeded by batch, so that a resumed run samples the same answers as an uninterrupted one.
        torch.manual_seed(options.seed + batch[0][0])
        images = read_images(samples)
    predictions = predictor.predict(samples, images)
    return [
        scoring.score_sample(sample, prediction, options.mode)
        for sample, prediction in zip(samples, predictions, strict=True)
    ]
