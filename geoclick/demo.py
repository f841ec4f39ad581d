"""`geoclick demo`: the whole pipeline, offline, on the small models of the package.

    geoclick demo --output runs/demo

It runs the real commands and prints each of them first: scenes, clicks, the score of the base model, LoRA training,
the score of the tuned model, the upper bound (the synthetic clicks, decoded again), both also with the first click of
each answer only, and the training-free pipeline on a land cover dataset. Rerun on the same folder, it continues after
the last command that finished.
"""

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geoclick import files, output_folder
from geoclick.command import Command, print_next
from geoclick.config import option
from geoclick.demo_results import MAPS, map_table, read_maps, read_scores, summarize, table
from geoclick.demo_steps import StepRunner, step_runner
from geoclick.errors import GeoClickError

EXAMPLE = "geoclick demo --output runs/demo"
RECIPE = "sft/embedded"
PACKING = ("--packing-tokens", "2048", "--per-device-train-batch-size", "1")
"""Packs instead of the recipe's padded batches: a quarter faster on two CPU cores."""

CLICKING = ("--parts", "components", "--max-clicks", "3")
"""A prompt for each object of a target, of few clicks: a model of the package's size cannot learn later ones."""

LAND_COVER = "loveda"
"""The public dataset whose copy the training-free pipeline labels."""

Steps = dict[str, list[str]]
"""The arguments of each `geoclick` command, by the name of the step."""


@dataclass(frozen=True)
class DemoOptions:
    """Options of `geoclick demo`."""

    output: str = option("runs/demo", help="folder for all results")
    train_samples: int = option(1200, help="number of training samples", minimum=1, maximum=10**6)
    test_samples: int = option(300, help="number of held-out samples", minimum=1, maximum=10**6)
    epochs: float = option(3.0, help="number of training epochs", minimum=0.01, maximum=10**4)
    map_images: int = option(4, help="number of land cover images for the training-free pipeline", minimum=1)
    seed: int = option(0, help="seed of the scenes and of the training", minimum=0)


def commands(options: DemoOptions) -> Steps:
    """The steps of the pipeline, in order."""
    out = Path(options.output)
    scenes, seed = f"{out / 'scenes'}", f"{options.seed}"
    steps: Steps = {}
    for split, count in (("train", options.train_samples), ("test", options.test_samples)):
        clicks = f"{out / 'clicks' / split}"
        rendered = ["--version", "2", "--split", split, "--count", f"{count}", "--seed", seed]
        steps[f"scenes-{split}"] = ["scenes", scenes, *rendered]
        synth = ["synth", "--root", scenes, "--split", split, *CLICKING]
        steps[f"clicks-{split}"] = [*synth, "--output", clicks]
    evaluate = ["evaluate", "--root", scenes, "--split", "test"]
    steps["base"] = [*evaluate, "--output", f"{out / 'base'}"]
    steps["adapter"] = [
        *("train", "sft", "--config", RECIPE, "--clicks", f"{out / 'clicks' / 'train'}"),
        *("--root", scenes, "--output", f"{out / 'adapter'}", "--resume"),
        *("--num-train-epochs", f"{options.epochs}", "--seed", seed, *PACKING),
    ]
    adapter = ["--adapter", f"{out / 'adapter'}"]
    oracle = ["--predictor", "oracle", "--clicks", f"{out / 'clicks' / 'test'}"]
    for name, clicked in (("lora", adapter), ("upper_bound", oracle)):
        first = f"{name}_first"
        steps[first] = [*evaluate, *clicked, "--decode", "first", "--output", f"{out / first}"]
        steps[name] = [*evaluate, *clicked, "--output", f"{out / name}"]
    land_cover, images = f"{out / 'land-cover'}", f"{options.map_images}"
    steps["land-cover"] = ["scenes", land_cover, "--layout", LAND_COVER, "--count", images, "--seed", seed]
    steps["maps"] = [
        *("ablate", "--dataset", LAND_COVER, "--root", land_cover, "--points-per-side", "16"),
        *("--grid", "features", "select", "--selections", "dense", "vote"),
        *("--cache", f"{out / 'cache'}", "--output", f"{out / 'maps'}"),
    ]
    # With the proposals and features of the step before.
    steps[MAPS] = [
        *("evaluate", "--dataset", LAND_COVER, "--root", land_cover, "--predictor", "contrastive"),
        *("--points-per-side", "16", "--cache", f"{out / 'cache'}", "--output", f"{out / MAPS}"),
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
    # It reads images, which the steps before need not.
    from geoclick.demo_report import page

    scores, maps = read_scores(output), read_maps(output)
    summary = summarize(scores, seconds, maps)
    text = f"{table(scores)}\n\n{map_table(maps)}"
    files.write_whole(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    files.write_whole(output / "report.html", page(output, scores, summary, steps))
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
