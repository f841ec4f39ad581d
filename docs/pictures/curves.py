"""Make curves.png, IoU by number of clicks and by training steps, from finished runs.

python docs/pictures/curves.py runs/ablation runs/curve

The first folder is the output of benchmarks.click_ablation. The second one contains run folders of `geoclick evaluate`
on the same samples: one for each checkpoint of a training, named by its step, and `base` and `upper_bound`. Needs
matplotlib.
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt


def plot_clicks(axes: plt.Axes, folder: Path) -> None:
    """Mean IoU by number of clicks, one line per signs and decoding."""
    ablation = json.loads((folder / "ablation.json").read_text(encoding="utf-8"))
    for name, row in ablation["miou"].items():
        color = "tab:green" if name.startswith("both") else "tab:orange"
        style = "-o" if name.endswith("replay") else "--s"
        axes.plot(range(1, len(row) + 1), row, style, color=color, markersize=4, label=name)
    axes.set(xlabel="clicks", ylabel="mean IoU", title=f"{ablation['samples']} targets of scenes-v1")
    axes.legend()


def plot_steps(axes: plt.Axes, folder: Path) -> None:
    """The mIoU of checkpoints, from the base model on, and the upper bound (the stored clicks)."""
    metrics = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in folder.glob("*/metrics.json")
    }
    steps = sorted(int(name) for name in metrics if name.isdigit())
    tasks = {
        "all": lambda run: run["scores"]["miou"],
        "referring": lambda run: run["by_task"]["referring"]["miou"],
        "reasoning": lambda run: run["by_task"]["reasoning"]["miou"],
        "no target": lambda run: run["no_target"]["accuracy"],
    }
    for name, value in tasks.items():
        width = 2.2 if name == "all" else 1.2
        values = [value(metrics["base"]), *(value(metrics[str(step)]) for step in steps)]
        axes.plot([0, *steps], values, "-o", markersize=4, linewidth=width, label=name)
    axes.axhline(
        tasks["all"](metrics["upper_bound"]), color="grey", linestyle=":", label="stored clicks, all"
    )
    axes.set(
        xlabel="LoRA steps", ylabel="mIoU", ylim=(0, 1), title=f"{metrics['base']['scores']['n']} samples"
    )
    axes.legend(loc="lower right")


def main(ablation: Path, runs: Path) -> None:
    """Plot both panels side by side."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    plot_clicks(left, ablation)
    plot_steps(right, runs)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(Path(__file__).parent / "curves.png", dpi=110)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
