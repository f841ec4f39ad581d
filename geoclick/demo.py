"""`geoclick demo`: the whole chain, offline, on the embedded models.

    geoclick demo --output runs/demo

It prints each real command before running it: scenes, clicks, the base model's score, LoRA training, the tuned
model's score and the score of the stored clicks themselves, which no model that writes such clicks can be asked to
beat. Started again on the same folder it goes on after the last command that finished.
"""

import html
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geoclick import config, files
from geoclick.command import Command
from geoclick.config import option
from geoclick.errors import GeoClickError

EXAMPLE = "geoclick demo --output runs/demo"
RECIPE = Path(__file__).resolve().parents[1] / "configs" / "sft" / "embedded.yaml"
RUNS = {
    "base": "base model",
    "lora": "LoRA-tuned",
    "upper_bound": "stored clicks",
}
"""The three scores and what the table calls them."""


@dataclass(frozen=True)
class DemoOptions:
    """What `geoclick demo` takes."""

    output: str = option("runs/demo", help="folder for everything that the demo makes")
    train_samples: int = option(2400, help="samples that the adapter learns from")
    test_samples: int = option(300, help="held-out samples that the table is about")
    epochs: float = option(3.0, help="passes over the training samples")
    seed: int = option(0, help="seed of the scenes and of the training")


def commands(options: DemoOptions) -> dict[str, list[str]]:
    """The chain: the name of each step and the words after `geoclick`."""
    out = Path(options.output)
    scenes, seed = f"{out / 'scenes'}", f"{options.seed}"
    steps = {}
    for split, count in (("train", options.train_samples), ("test", options.test_samples)):
        steps[f"scenes-{split}"] = ["scenes", scenes, "--split", split, "--count", f"{count}", "--seed", seed]
        steps[f"clicks-{split}"] = [
            "synth",
            "--root",
            scenes,
            "--split",
            split,
            "--output",
            f"{out / 'clicks' / split}",
        ]
    evaluate = ["evaluate", "--root", scenes, "--split", "test"]
    steps["base"] = [*evaluate, "--output", f"{out / 'base'}"]
    steps["adapter"] = [
        *("train", "sft", "--config", str(RECIPE), "--clicks", f"{out / 'clicks' / 'train'}"),
        *("--root", scenes, "--output", f"{out / 'adapter'}", "--resume"),
        *("--num-train-epochs", f"{options.epochs}", "--seed", seed),
    ]
    steps["lora"] = [*evaluate, "--adapter", f"{out / 'adapter'}", "--output", f"{out / 'lora'}"]
    stored = ["--predictor", "oracle", "--clicks", f"{out / 'clicks' / 'test'}"]
    steps["upper_bound"] = [*evaluate, *stored, "--output", f"{out / 'upper_bound'}"]
    return steps


def run_step(number: str, words: Sequence[str]) -> None:
    """Print a command and run it; raises GeoClickError when it fails, after its own words about why."""
    print(f"\n[{number}] $ geoclick {shlex.join(words)}", flush=True)
    result = subprocess.run([sys.executable, "-m", "geoclick.cli", *words], check=False)
    if result.returncode:
        raise GeoClickError(
            f"'geoclick {' '.join(words[:2])}' failed with exit code {result.returncode}; mend what it says above "
            "and start the demo again, it goes on there."
        )


def table(scores: dict[str, dict]) -> str:
    """The scores side by side, as text."""
    rows = [f"{'':<16}{'mIoU':>8}{'referring':>11}{'reasoning':>11}{'no target':>11}{'clicks':>8}"]
    for name, label in RUNS.items():
        metrics = scores[name]
        tasks = [
            metrics["by_task"].get(task, {}).get("miou", float("nan")) for task in ("referring", "reasoning")
        ]
        empty = metrics["no_target"]["accuracy"]
        rows.append(
            f"{label:<16}{metrics['scores']['miou']:>8.3f}{tasks[0]:>11.3f}{tasks[1]:>11.3f}"
            f"{float('nan') if empty is None else empty:>11.3f}{metrics['mean_clicks']:>8.2f}"
        )
    return "\n".join(rows)


def page(text: str, summary: dict) -> str:
    """The demo's own report: the table and the way to the three full ones."""
    links = "".join(
        f'<li><a href="{name}/report.html">{html.escape(label)}</a></li>' for name, label in RUNS.items()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>GeoClick demo</title><style>"
        "body{font:16px/1.5 system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem}"
        "pre{background:#f4f4f2;padding:1rem;overflow-x:auto}</style><h1>GeoClick demo</h1>"
        f"<p>{summary['samples']} held-out samples; the demo took {summary['seconds']:.0f} s.</p>"
        f"<pre>{html.escape(text)}</pre><p>Reports with pictures:</p><ul>{links}</ul>"
        '<p><a href="clicks/train/sheet.png">Click sequences that the adapter learnt from</a></p></html>\n'
    )


def finished_before(marks: Path, steps: dict[str, list[str]]) -> dict[str, float]:
    """Seconds of the steps that an earlier start finished; raises GeoClickError if it had other options."""
    if not marks.exists():
        return {}
    try:
        before = json.loads(marks.read_text(encoding="utf-8"))
        same, seconds = before["config"] == steps, dict(before["seconds"])
    except (ValueError, TypeError, KeyError) as error:
        raise GeoClickError(f"{marks} is damaged; remove {marks.parent} and start again.") from error
    if not same:
        raise GeoClickError(
            f"{marks.parent} holds a demo with other options; name another --output or remove it."
        )
    return seconds


def run(options: DemoOptions) -> None:
    """Run the chain, write summary.json and report.html, print the table."""
    if not RECIPE.exists():
        raise GeoClickError(
            f"{RECIPE} is missing; the demo needs the source checkout, installed with pip install -e ."
        )
    out = Path(options.output)
    steps = commands(options)
    marks = out / "finished.json"
    seconds = finished_before(marks, steps)
    config.write_config(options, out)
    for number, (name, words) in enumerate(steps.items(), start=1):
        if name in seconds:
            continue
        began = time.perf_counter()
        run_step(f"{number}/{len(steps)}", words)
        seconds[name] = time.perf_counter() - began
        files.write_whole(marks, json.dumps({"config": steps, "seconds": seconds}, indent=2))
    scores = {name: json.loads((out / name / "metrics.json").read_text(encoding="utf-8")) for name in RUNS}
    summary = {f"{name}_miou": scores[name]["scores"]["miou"] for name in RUNS}
    summary |= {"samples": scores["lora"]["scores"]["n"], "seconds": sum(seconds.values()), "steps": seconds}
    files.write_whole(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    text = table(scores)
    files.write_whole(out / "report.html", page(text, summary))
    print(f"\n{text}\n\n{summary['samples']} held-out samples, {summary['seconds']:.0f} s")
    print(f"report: {out / 'report.html'}")


main = Command(
    prog="geoclick demo",
    options=DemoOptions,
    run=run,
    description="Run the whole chain offline on the embedded models, command by command.",
    example=EXAMPLE,
)


if __name__ == "__main__":
    sys.exit(main())
