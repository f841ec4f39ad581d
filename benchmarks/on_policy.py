"""On-policy clicks against further supervised steps, on procedural scenes with the embedded models.

    python -m benchmarks.on_policy --output runs/on_policy

A supervised adapter is trained. In each round the model clicks on the training scenes, what it should have clicked next
is added to the training data, and the adapter is trained further (DAgger). The comparison is the same adapter, trained
further on the supervised rows for as many steps. All are scored on held-out scenes. Writes on_policy.json and prints a
table of mIoU by kind of query. Rerun the command to continue after the last step that finished.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from geoclick import config, files
from geoclick.command import Command
from geoclick.config import option
from geoclick.demo import PACKING, Steps, finished_steps, run_steps
from geoclick.scenes.drawing import VARIED_TASKS

SUPERVISED = "supervised"
CLICKS = 3
"""Clicks of a part that are trained on: the own ones of the model, and one or two more."""


@dataclass(frozen=True, kw_only=True)
class OnPolicyOptions:
    """Options of `python -m benchmarks.on_policy`."""

    output: str = option(help="folder for the runs and on_policy.json")
    train_samples: int = option(1800, help="training samples", minimum=1)
    test_samples: int = option(600, help="held-out samples", minimum=1)
    version: int = option(2, help="version of the scenes, see geoclick scenes", minimum=1)
    epochs: float = option(3.0, help="epochs of the supervised adapter")
    steps: int = option(120, help="optimizer steps of a round, and of the comparison", minimum=1)
    rounds: int = option(2, help="on-policy rounds", minimum=1)
    learning_rate: float = option(3e-4, help="of the rounds and of the comparison")
    parts: str = option("auto", choices=("one", "components", "auto"), help="see geoclick synth")
    expert: str = option("lookahead", choices=("center", "lookahead"), help="see geoclick synth")
    own_clicks: str = option("best", choices=("best", "all", "random"), help="see geoclick synth")
    ask: int = option(
        1,
        help="above 1: also train an adapter on rows that show masks, and evaluate it with so many --rounds",
        minimum=1,
    )
    seed: int = option(0, help="random seed (scenes, clicks, training)", minimum=0)


def commands(options: OnPolicyOptions) -> Steps:
    """The steps of the comparison, in order."""
    out, seed = Path(options.output), str(options.seed)
    scenes = str(out / "scenes")
    steps: Steps = {}
    for split, count in (("train", options.train_samples), ("test", options.test_samples)):
        words = ["--split", split, "--count", str(count), "--version", str(options.version), "--seed", seed]
        steps[f"scenes-{split}"] = ["scenes", scenes, *words]
    synth = ["synth", "--root", scenes, "--split", "train", "--parts", options.parts, "--sheet", "8"]
    policy = [] if options.expert == "center" else ["--policy", options.expert]
    stores = [str(out / "clicks" / SUPERVISED)]
    steps["clicks"] = [*synth, *policy, "--output", stores[0]]
    train = ["train", "sft", "--config", "sft/embedded", "--root", scenes, "--resume", *PACKING]
    train += ["--max-clicks", str(CLICKS), "--seed", seed]
    evaluate = ["evaluate", "--root", scenes, "--split", "test"]

    def add_run(name: str, clicks: list[str], *more: str) -> str:
        folder = str(out / "adapters" / name)
        steps[f"train-{name}"] = [*train, "--clicks", *clicks, *more, "--output", folder]
        evaluation = str(out / "evaluations" / name)
        steps[f"evaluate-{name}"] = [*evaluate, "--adapter", folder, "--output", evaluation]
        return folder

    first = add_run(SUPERVISED, stores, "--num-train-epochs", str(options.epochs))
    further = ["--max-steps", str(options.steps), "--learning-rate", str(options.learning_rate)]
    learner = compared = first
    for number in range(1, options.rounds + 1):
        stores = [*stores, str(out / "clicks" / f"round-{number}")]
        own = ["--policy", "on-policy", "--adapter", learner, "--expert", options.expert]
        own += ["--own-clicks", options.own_clicks]
        steps[f"clicks-{number}"] = [*synth, *own, "--output", stores[-1]]
        # Half of the rows are supervised, the others on-policy, from all rounds so far.
        weights = ["0.5", *[str(0.5 / number)] * number]
        words = ["--adapter", learner, "--weights", *weights, "--stopping", "all", *further]
        learner = add_run(f"round-{number}", stores, *words)
        compared = add_run(f"further-{number}", stores[:1], "--adapter", compared, *further)
    if options.ask > 1:
        shown = str(out / "clicks" / "shown")
        own = ["--policy", "on-policy", "--adapter", first, "--expert", options.expert, "--show-masks"]
        steps["clicks-shown"] = [*synth, *own, "--output", shown]
        words = ["--adapter", first, "--weights", "0.5", "0.5", "--stopping", "all", *further]
        folder = add_run("shown", [stores[0], shown], *words)
        rounds = ["--adapter", folder, "--rounds", str(options.ask)]
        steps["evaluate-rounds"] = [*evaluate, *rounds, "--output", str(out / "evaluations" / "shown-rounds")]
    return steps


def read_figures(output: Path) -> dict[str, dict[str, float | None]]:
    """The scores of each adapter: mIoU of all samples and by kind of query, and the accuracy without a target."""
    figures: dict[str, dict[str, float | None]] = {}
    for folder in sorted((output / "evaluations").iterdir()):
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        by_task = {task: metrics["by_task"].get(task, {}).get("miou") for task in VARIED_TASKS}
        figures[folder.name] = {
            "miou": metrics["scores"]["miou"],
            **{task: value for task, value in by_task.items() if value is not None},
            "no_target": metrics["no_target"]["accuracy"],
            "clicks": metrics["mean_clicks"],
        }
    return figures


def table(figures: dict[str, dict[str, float | None]]) -> str:
    """The scores as text, one row for each adapter."""
    names = list(next(iter(figures.values())))
    lines = [f"{'':<14}" + "".join(f"{name:>{max(8, len(name) + 2)}}" for name in names)]
    for name, row in figures.items():
        cells = ("-" if row[key] is None else f"{row[key]:.4f}" for key in names)
        lines.append(
            f"{name:<14}"
            + "".join(f"{cell:>{max(8, len(key) + 2)}}" for key, cell in zip(names, cells, strict=True))
        )
    return "\n".join(lines)


def run(options: OnPolicyOptions) -> None:
    """Run the steps that are missing, and write and print the scores."""
    output = Path(options.output)
    steps, log = commands(options), output / "finished.json"
    seconds = finished_steps(log, steps)
    config.write_config(options, output)
    run_steps(steps, log, seconds)
    figures = read_figures(output)
    content = {"figures": figures, "seconds": seconds}
    files.write_whole(output / "on_policy.json", json.dumps(content, indent=2) + "\n")
    print(f"\n{table(figures)}")


main = Command(
    prog="python -m benchmarks.on_policy",
    options=OnPolicyOptions,
    run=run,
    description="Compare on-policy rounds with further supervised steps on procedural scenes.",
    example="python -m benchmarks.on_policy --output runs/on_policy",
)


if __name__ == "__main__":
    sys.exit(main())
