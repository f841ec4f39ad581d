"""What an evaluation costs apart from its models: a millisecond a sample for its figures, and how much memory.

    python -m benchmarks.evaluation --output runs/evaluation

First what a sample of side x side pixels costs: its record, with masks coded and compared, its lines written and read,
metrics.json, and its share of the report. Then, for each number of samples, `geoclick evaluate --predictor noisy` on a
drawn plain folder, in a process of its own, with the most memory that it held. Writes evaluation.json; times are CPU
time of one thread, which other work on the machine lengthens less.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from geoclick import config, files, images, masks
from geoclick.clicks import Click
from geoclick.command import Command
from geoclick.config import option
from geoclick.datasets import Sample
from geoclick.errors import UsageError
from geoclick.inference.evaluation import results, run_folder, scoring
from geoclick.inference.prediction import Prediction
from geoclick.inference.reports import evaluation_report
from geoclick.scoring import boundary, metrics, records

DISTINCT = 64
"""Different pairs of masks; samples go through them in turn."""
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
    """What `python -m benchmarks.evaluation` takes."""

    output: str = option(help="folder for evaluation.json and what is measured")
    side: int = option(800, help="side in pixels of the images whose cost is measured", minimum=16)
    samples: int = option(2000, help="samples whose cost is measured", minimum=1)
    memory_side: int = option(256, help="side in pixels where memory is measured", minimum=16)
    memory_samples: tuple[int, ...] = option(
        (5000, 50_000), help="numbers of samples, one run each", minimum=1
    )
    seed: int = option(0, help="of the masks")


def draw_masks(side: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of a target and a prediction near it, bool [side, side], with bays, islands and holes.

    Targets cover up to half of the image, most of them little; one in sixteen is empty, and so is another prediction.
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


def samples(root: Path, side: int, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Sample]:
    """A sample for each pair, with an image of noise."""
    rng, made = np.random.default_rng(0), []
    for number, (target, _) in enumerate(pairs):
        images.write_png(root / f"{number}.png", rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        made.append(
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
    return made


def milliseconds(work: Callable[..., Any], over: Sequence[tuple]) -> float:
    """The mean over arguments of the median CPU time of five calls."""
    found = []
    for arguments in over:
        times = []
        for _ in range(5):
            began = time.process_time()
            work(*arguments)
            times.append(time.process_time() - began)
        found.append(statistics.median(times))
    return round(1000 * statistics.fmean(found), 3)


def cost(folder: Path, options: EvaluationOptions) -> dict[str, Any]:
    """CPU milliseconds a sample: of the parts of a record, and of each step of a run after its models' part."""
    folder.mkdir(parents=True)
    pairs = list(draw_masks(options.side, options.seed))
    asked = samples(folder, options.side, pairs)
    given = [Prediction(mask, CLICKS, "+(10,20) -(300,400) +(64,65)", "ok") for _, mask in pairs]
    parts = {
        "decode the target": milliseconds(masks.decode_rle, [(sample.rle,) for sample in asked]),
        "compare": milliseconds(metrics.compare, pairs),
        "of that boundary IoU": milliseconds(boundary.overlap, pairs),
        "encode the prediction": milliseconds(masks.encode_rle, [(mask,) for _, mask in pairs]),
    }
    protocol = {"dataset": "folder", "root": str(folder), "split": "test", "n": options.samples}
    protocol |= {"mode": "native", "predictor": "noisy", "seed": 0}
    predictions = folder / records.PREDICTIONS

    def split() -> Iterator[run_folder.Part]:
        stream = (replace(asked[i % DISTINCT], sample_id=f"s{i}") for i in range(options.samples))
        return run_folder.split(stream, BATCH)

    def lines(batch: list[tuple[int, Sample]]) -> list[dict]:
        return [scoring.score_sample(sample, given[number % DISTINCT], "native") for number, sample in batch]

    steps, began = {}, time.process_time()

    def lap(name: str) -> None:
        nonlocal began
        began, before = time.process_time(), began
        steps[name] = round(1000 * (began - before) / options.samples, 3)

    with run_folder.EvaluationFolder(folder, protocol).open() as claims:
        run_folder.answer(folder, split, claims, batch_size=BATCH, ask=lines, advance=lambda count: None)
        lap("records, written")
        run_folder.finish(folder, options.samples)
    lap("joined in order")
    summary = results.summarise(records.read(predictions), protocol)
    lap("metrics.json")
    evaluation_report.write(folder, summary, predictions, count=6)
    lap("report")
    line = round(predictions.stat().st_size / options.samples)
    return {"parts": parts, "steps": steps, "total": round(sum(steps.values()), 3), "bytes_a_line": line}


def draw(root: Path, count: int, side: int, seed: int) -> None:
    """A plain folder with the split `test` of `count` samples on DISTINCT images."""
    pairs = list(draw_masks(side, seed))
    folder = root / "test"
    folder.mkdir(parents=True, exist_ok=True)
    made = samples(folder, side, pairs)
    with (folder / "samples.jsonl").open("w", encoding="utf-8") as file:
        for number in range(count):
            sample = made[number % DISTINCT]
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
    """Run `geoclick evaluate` on a drawn folder; CPU seconds and the process's peak memory in MB."""
    words = ["--root", data, "--output", output, "--predictor", "noisy", "--noise", 0.001]
    process = subprocess.Popen([sys.executable, "-m", "geoclick.inference.evaluate", *map(str, words)])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("geoclick evaluate failed; see what it says above.")
    return {
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024, 1),
    }


def run(options: EvaluationOptions) -> None:
    """Measure, print and write."""
    folder = Path(options.output)
    if folder.exists():
        raise UsageError(f"{folder} is there already; give another --output.")
    config.write_config(options, folder)
    found: dict[str, Any] = {"milliseconds": cost(folder / "cost", options), "runs": []}
    print(json.dumps(found["milliseconds"], indent=1), flush=True)
    for count in options.memory_samples:
        data = folder / f"{count}"
        draw(data, count, options.memory_side, options.seed)
        found["runs"].append({"samples": count} | evaluate(data, folder / f"{count}-run"))
        print(json.dumps(found["runs"][-1]), flush=True)
    files.write_whole(folder / "evaluation.json", json.dumps(found, indent=1) + "\n")


main = Command(
    prog="python -m benchmarks.evaluation",
    options=EvaluationOptions,
    run=run,
    description="Measure what an evaluation costs apart from its models.",
    example="python -m benchmarks.evaluation --output runs/evaluation",
)


if __name__ == "__main__":
    sys.exit(main())
