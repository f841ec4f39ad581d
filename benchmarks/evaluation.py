"""Time and memory of an evaluation without its models.

    python -m benchmarks.evaluation --output runs/evaluation

First, the CPU time per sample of side x side pixels: encoding and comparing masks, writing and reading the records,
metrics.json and the report. Then, for each number of samples, time and peak memory of `geoclick evaluate --predictor
noisy` on a generated plain folder, in a process of its own. Writes evaluation.json. It reports CPU time, which depends
less on the load of the machine than wall-clock time.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks import measured_command
from geoclick import config, files, images, masks
from geoclick.clicks import Click
from geoclick.command import Command
from geoclick.config import option
from geoclick.datasets import Sample
from geoclick.errors import UsageError
from geoclick.inference.evaluation import results, run_folder, scoring
from geoclick.inference.generative.prediction import Prediction
from geoclick.inference.reports import evaluation_report
from geoclick.scoring import boundary, metrics, records
from geoclick.scoring.records import Record

DISTINCT = 64
"""Number of different pairs of masks, which the samples share."""
BATCH = 16
QUERIES = (
    "the ship on the left",
    "a small vehicle on the upper right of the harbor",
    "the red dam",
    "a bridge",
)
CLICKS = (Click(10.5, 20.5), Click(300.25, 400.75, False), Click(64.0, 65.0))


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Options of `python -m benchmarks.evaluation`."""

    output: str = option(help="folder for evaluation.json, the datasets and the runs")
    side: int = option(800, help="side in pixels of the images for the time per sample", minimum=16)
    samples: int = option(2000, help="number of samples for the time per sample", minimum=1)
    memory_side: int = option(256, help="side in pixels of the images for the memory", minimum=16)
    memory_samples: tuple[int, ...] = option(
        (5000, 50_000), help="numbers of samples for the memory, one run each", minimum=1
    )
    seed: int = option(0, help="random seed (masks)")


def draw_masks(side: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of a target and a similar prediction, bool [side, side], with irregular borders, islands and holes.

    Targets cover up to half of the image, most of them much less. One target in sixteen is empty, and one prediction.
    """
    rng = np.random.default_rng(seed)
    for number in range(DISTINCT):
        coarse = ndimage.gaussian_filter(rng.standard_normal((2, 64, 64)), (0, 3, 3))
        fine = ndimage.zoom(coarse, (1, side / 64, side / 64), order=1)[:, :side, :side]
        covered = 0.5 * rng.random() ** 3
        pair = [field > np.quantile(field, 1 - covered) for field in (fine[0], fine[0] + 0.2 * fine[1])]
        for i in range(2):
            pair[i] &= number % 16 != i
        yield pair[0], pair[1]


def make_samples(root: Path, side: int, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Sample]:
    """A sample for each pair, with an image of noise."""
    rng, samples = np.random.default_rng(0), []
    for number, (target, _) in enumerate(pairs):
        images.write_png(root / f"{number}.png", rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        samples.append(
            Sample(
                sample_id=f"{number}",
                dataset="folder",
                split="test",
                task="referring" if target.any() else "no_target",
                query=QUERIES[number % len(QUERIES)],
                root=root,
                image=f"{number}.png",
                size=(side, side),
                rle=masks.encode_rle(target),
                category=("ship", "vehicle", "dam", "bridge")[number % len(QUERIES)],
            )
        )
    return samples


def milliseconds(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> float:
    """The mean, over the arguments in `calls`, of the median CPU time of five calls."""
    medians = []
    for arguments in calls:
        times = []
        for _ in range(5):
            start = time.process_time()
            function(*arguments)
            times.append(time.process_time() - start)
        medians.append(statistics.median(times))
    return round(1000 * statistics.fmean(medians), 3)


def cost(folder: Path, options: EvaluationOptions) -> dict[str, Any]:
    """CPU milliseconds per sample, of the parts of a record and of each step of a run without its models."""
    folder.mkdir(parents=True)
    pairs = list(draw_masks(options.side, options.seed))
    distinct = make_samples(folder, options.side, pairs)
    predictions = [Prediction(mask, CLICKS, "+(10,20) -(300,400) +(64,65)", "ok") for _, mask in pairs]
    parts = {
        "decode the target": milliseconds(masks.decode_rle, [(sample.rle,) for sample in distinct]),
        "compare": milliseconds(metrics.compare, pairs),
        "of that boundary IoU": milliseconds(boundary.overlap, pairs),
        "encode the prediction": milliseconds(masks.encode_rle, [(mask,) for _, mask in pairs]),
    }
    protocol = {"dataset": "folder", "root": str(folder), "split": "test", "n": options.samples}
    protocol |= {"mode": "native", "predictor": "noisy", "seed": 0}
    path = folder / records.PREDICTIONS

    def split() -> Iterator[run_folder.Part]:
        stream = (replace(distinct[i % DISTINCT], sample_id=f"s{i}") for i in range(options.samples))
        return run_folder.split(stream, BATCH)

    def lines(batch: list[tuple[int, Sample]]) -> list[Record]:
        return [
            scoring.score_sample(sample, predictions[number % DISTINCT], "native") for number, sample in batch
        ]

    steps: dict[str, float] = {}
    last = time.process_time()

    def lap(name: str) -> None:
        nonlocal last
        last, before = time.process_time(), last
        steps[name] = round(1000 * (last - before) / options.samples, 3)

    with run_folder.EvaluationFolder(folder, protocol).open() as claims:
        if claims is None:
            raise SystemExit(f"{folder} holds a finished evaluation; remove it.")
        run_folder.answer(folder, split, claims, batch_size=BATCH, ask=lines, advance=lambda count: None)
        lap("records, written")
        run_folder.finish(folder, options.samples)
    lap("joined in order")
    summary = results.summarize(records.read(path), protocol)
    lap("metrics.json")
    evaluation_report.write(folder, summary, path, count=6)
    lap("report")
    line = round(path.stat().st_size / options.samples)
    return {"parts": parts, "steps": steps, "total": round(sum(steps.values()), 3), "bytes_a_line": line}


def write_dataset(root: Path, count: int, side: int, seed: int) -> None:
    """Write a plain folder with the split `test` of `count` samples on DISTINCT images."""
    pairs = list(draw_masks(side, seed))
    folder = root / "test"
    folder.mkdir(parents=True, exist_ok=True)
    samples = make_samples(folder, side, pairs)
    with (folder / "samples.jsonl").open("w", encoding="utf-8") as file:
        for number in range(count):
            sample = samples[number % DISTINCT]
            line = {
                "sample_id": f"s{number}",
                "task": sample.task,
                "query": sample.query,
                "image": sample.image,
                "size": list(sample.size),
                "mask": sample.rle,
                "category": sample.category,
            }
            file.write(json.dumps(line) + "\n")


def evaluate(data: Path, output: Path) -> dict[str, float]:
    """Run `geoclick evaluate` on a generated folder; CPU time in seconds and peak memory in MB."""
    usage = measured_command.measure(
        "geoclick.inference.evaluate",
        *("--root", data, "--output", output, "--predictor", "noisy", "--noise", 0.001),
    )
    return {"cpu_seconds": round(usage.cpu_seconds, 1), "peak_mb": round(usage.peak_mb, 1)}


def run(options: EvaluationOptions) -> None:
    """Measure, and print and write the results."""
    folder = Path(options.output)
    if folder.exists():
        raise UsageError(f"{folder} exists; give another --output.")
    config.write_config(options, folder)
    figures: dict[str, Any] = {"milliseconds": cost(folder / "cost", options), "runs": []}
    print(json.dumps(figures["milliseconds"], indent=1), flush=True)
    for count in options.memory_samples:
        data = folder / f"{count}"
        write_dataset(data, count, options.memory_side, options.seed)
        figures["runs"].append({"samples": count} | evaluate(data, folder / f"{count}-run"))
        print(json.dumps(figures["runs"][-1]), flush=True)
    files.write_whole(folder / "evaluation.json", json.dumps(figures, indent=1) + "\n")


main = Command(
    prog="python -m benchmarks.evaluation",
    options=EvaluationOptions,
    run=run,
    description="Measure time and memory of an evaluation without its models.",
    example="python -m benchmarks.evaluation --output runs/evaluation",
)


if __name__ == "__main__":
    sys.exit(main())
