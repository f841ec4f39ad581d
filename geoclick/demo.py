"""`geoclick demo`: the whole pipeline, offline, on the small models of the package.

    geoclick demo --output runs/demo

It runs the real commands and prints each of them first: scenes, clicks, the score of the base model, LoRA training,
the score of the tuned model, the upper bound (the synthetic clicks, decoded again), and the training-free pipeline on
a land cover dataset. Rerun on the same folder, it continues after the last command that finished.
"""

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from geoclick import files, output_folder
from geoclick.command import Command, print_next
from geoclick.config import option
from geoclick.demo_steps import StepRunner, step_runner
from geoclick.errors import GeoClickError
from geoclick.options import DENSE_METHODS

EXAMPLE = "geoclick demo --output runs/demo"
RECIPE = "sft/embedded"
PACKING = ("--packing-tokens", "2048", "--per-device-train-batch-size", "1")
"""Packs instead of the recipe's padded batches: a quarter faster on two CPU cores."""

RUNS = {
    "base": "base model",
    "lora": "LoRA-tuned",
    "upper_bound": "upper bound",
}
"""The three evaluations and their names in the table."""

LAND_COVER = "loveda"
"""The public dataset whose copy the training-free pipeline labels."""

ORACLE = "oracle-proposals"

Steps = dict[str, list[str]]
"""The arguments of each `geoclick` command, by the name of the step."""


class Scores(TypedDict):
    """What the table shows of a metrics.json."""

    scores: dict[str, float]
    by_task: dict[str, dict[str, float]]
    no_target: dict[str, float | None]
    mean_clicks: float


class Summary(TypedDict):
    """The content of summary.json."""

    base_miou: float
    lora_miou: float
    upper_bound_miou: float
    samples: float
    map_miou: dict[str, dict[str, float]]
    seconds: float
    steps: dict[str, float]


@dataclass(frozen=True)
class DemoOptions:
    """Options of `geoclick demo`."""

    output: str = option("runs/demo", help="folder for all results")
    train_samples: int = option(1600, help="number of training samples")
    test_samples: int = option(300, help="number of held-out samples")
    epochs: float = option(3.0, help="number of training epochs")
    map_images: int = option(4, help="number of land cover images for the training-free pipeline", minimum=1)
    seed: int = option(0, help="seed of the scenes and of the training")


def commands(options: DemoOptions) -> Steps:
    """The steps of the pipeline, in order."""
    out = Path(options.output)
    scenes, seed = f"{out / 'scenes'}", f"{options.seed}"
    steps: Steps = {}
    for split, count in (("train", options.train_samples), ("test", options.test_samples)):
        clicks = f"{out / 'clicks' / split}"
        steps[f"scenes-{split}"] = ["scenes", scenes, "--split", split, "--count", f"{count}", "--seed", seed]
        steps[f"clicks-{split}"] = ["synth", "--root", scenes, "--split", split, "--output", clicks]
    evaluate = ["evaluate", "--root", scenes, "--split", "test"]
    steps["base"] = [*evaluate, "--output", f"{out / 'base'}"]
    steps["adapter"] = [
        *("train", "sft", "--config", RECIPE, "--clicks", f"{out / 'clicks' / 'train'}"),
        *("--root", scenes, "--output", f"{out / 'adapter'}", "--resume"),
        *("--num-train-epochs", f"{options.epochs}", "--seed", seed, *PACKING),
    ]
    steps["lora"] = [*evaluate, "--adapter", f"{out / 'adapter'}", "--output", f"{out / 'lora'}"]
    oracle = ["--predictor", "oracle", "--clicks", f"{out / 'clicks' / 'test'}"]
    steps["upper_bound"] = [*evaluate, *oracle, "--output", f"{out / 'upper_bound'}"]
    land_cover, images = f"{out / 'land-cover'}", f"{options.map_images}"
    steps["land-cover"] = ["scenes", land_cover, "--layout", LAND_COVER, "--count", images, "--seed", seed]
    steps["maps"] = [
        *("ablate", "--dataset", LAND_COVER, "--root", land_cover, "--points-per-side", "16"),
        *("--grid", "features", "select", "--selections", "dense", "vote"),
        *("--cache", f"{out / 'cache'}", "--output", f"{out / 'maps'}"),
    ]
    return steps


def run_step(runner: StepRunner, number: str, words: Sequence[str]) -> None:
    """Print a command and run it; raises GeoClickError if it fails, after the command's own message."""
    print(f"\n[{number}] $ geoclick {shlex.join(words)}", flush=True)
    if code := runner.run(words):
        raise GeoClickError(
            f"Step {number} failed with exit code {code}; fix the error shown above and rerun the "
            "demo, which continues from there."
        )


def run_steps(steps: Steps, log: Path, seconds: dict[str, float]) -> None:
    """Run the steps without an entry in `seconds`, and record the seconds of each there and in the log."""
    if seconds.keys() >= steps.keys():
        return
    with step_runner() as runner:
        for number, (name, words) in enumerate(steps.items(), start=1):
            if name in seconds:
                continue
            start = time.perf_counter()
            run_step(runner, f"{number}/{len(steps)}", words)
            seconds[name] = time.perf_counter() - start
            files.write_whole(log, json.dumps({"config": steps, "seconds": seconds}, indent=2))


def finished_steps(log: Path, steps: Steps) -> dict[str, float]:
    """Seconds of the steps that an earlier run finished.

    Raises:
        GeoClickError: the log is damaged, or its run had other options.
    """
    if not log.exists():
        return {}
    try:
        content = json.loads(log.read_text(encoding="utf-8"))
        earlier = {name: [_recipe_name(word) for word in words] for name, words in content["config"].items()}
        seconds = dict(content["seconds"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise GeoClickError(f"{log} is damaged; remove {log.parent} and rerun the demo.") from error
    # Earlier versions had fewer steps.
    if earlier != {name: steps.get(name) for name in earlier}:
        raise GeoClickError(
            f"{log.parent} holds a demo with other options; choose another --output or remove it."
        )
    return seconds


def _recipe_name(word: str) -> str:
    """An argument of an earlier run; logs of the first version name the recipe by its path."""
    return RECIPE if word.endswith(f"/configs/{RECIPE}.yaml") else word


def read_scores(output: Path) -> dict[str, Scores]:
    """The metrics of the three evaluations."""
    return {name: json.loads((output / name / "metrics.json").read_text(encoding="utf-8")) for name in RUNS}


def table(scores: dict[str, Scores]) -> str:
    """The scores of the three evaluations as text, one row each."""
    nan = float("nan")
    rows = [f"{'':<16}{'mIoU':>8}{'referring':>11}{'reasoning':>11}{'no target':>11}{'clicks':>8}"]
    for name, label in RUNS.items():
        metrics = scores[name]
        referring, reasoning = (
            metrics["by_task"].get(task, {}).get("miou", nan) for task in ("referring", "reasoning")
        )
        no_target = metrics["no_target"]["accuracy"]
        rows.append(
            f"{label:<16}{metrics['scores']['miou']:>8.3f}{referring:>11.3f}{reasoning:>11.3f}"
            f"{nan if no_target is None else no_target:>11.3f}{metrics['mean_clicks']:>8.2f}"
        )
    return "\n".join(rows)


def read_maps(output: Path) -> dict[str, dict[str, float]]:
    """The mIoU of each method, with `dense` labels and by the `vote` of proposals, and that of the oracle."""
    rows = json.loads((output / "maps" / "metrics.json").read_text(encoding="utf-8"))["rows"]
    methods: dict[str, dict[str, float]] = {name: {} for name in (*DENSE_METHODS, ORACLE)}
    for row in rows:
        features, select = row["setting"]["features"], row["setting"]["select"]
        if select == ORACLE:
            methods[ORACLE]["vote"] = row["miou"]
        else:
            methods[features][select] = row["miou"]
    return methods


def map_table(methods: dict[str, dict[str, float]]) -> str:
    """The scores of the training-free pipeline as text, one row for each method."""
    rows = [f"{'':<18}{'CLIP alone':>12}{'with SAM':>10}"]
    for name, miou in methods.items():
        alone, with_sam = (f"{miou[key]:.3f}" if key in miou else "" for key in ("dense", "vote"))
        rows.append(f"{name:<18}{alone:>12}{with_sam:>10}")
    return "\n".join(rows)


def summarize(
    scores: dict[str, Scores], seconds: dict[str, float], maps: dict[str, dict[str, float]]
) -> Summary:
    """The content of summary.json."""
    return {
        "base_miou": scores["base"]["scores"]["miou"],
        "lora_miou": scores["lora"]["scores"]["miou"],
        "upper_bound_miou": scores["upper_bound"]["scores"]["miou"],
        "samples": scores["lora"]["scores"]["n"],
        "map_miou": maps,
        "seconds": sum(seconds.values()),
        "steps": seconds,
    }


def page(text: str, summary: Summary) -> str:
    """The demo's own report: the tables, and links to the complete reports."""
    from geoclick import pages

    return pages.render("demo.html", title="GeoClick demo", table=text, summary=summary, runs=RUNS)


def run(options: DemoOptions) -> None:
    """Run the pipeline, write summary.json and report.html, and print the table."""
    output = Path(options.output)
    with output_folder.opened(output, "demo"):
        run_pipeline(options, output)


def run_pipeline(options: DemoOptions, output: Path) -> None:
    """Run the steps in an open output folder, write the results and print the table."""
    steps = commands(options)
    log = output / "finished.json"
    seconds = finished_steps(log, steps)
    output_folder.write_config(options, output, "demo")
    run_steps(steps, log, seconds)
    scores, maps = read_scores(output), read_maps(output)
    summary = summarize(scores, seconds, maps)
    text = f"{table(scores)}\n\n{map_table(maps)}"
    files.write_whole(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    files.write_whole(output / "report.html", page(text, summary))
    print(f"\n{text}\n\n{summary['samples']} held-out samples, {summary['seconds']:.0f} s")
    print(f"report: {output / 'report.html'}")
    image = next(iter(sorted((output / "scenes" / "test" / "images").glob("*.png"))), "IMAGE")
    adapter = ["--adapter", output / "adapter", "--output", output / "predict"]
    print_next("predict", image, "--text", "the largest building", *adapter)


main = Command(
    prog="geoclick demo",
    options=DemoOptions,
    run=run,
    description="Run the whole pipeline offline on the small models of the package, command by command.",
    example=EXAMPLE,
)


if __name__ == "__main__":
    sys.exit(main())
