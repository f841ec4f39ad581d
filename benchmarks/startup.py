"""The time of each command until its first line, compared with another checkout.

    python -m benchmarks.startup --baseline ../other-checkout --output runs/startup

The two checkouts run in turns, on the same scenes; each makes its own click store and adapter. A command is
stopped at its first line that is not a library's. CPU seconds depend less on the load of the machine than wall-clock
seconds. Writes startup.json and prints a table.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from geoclick import config, files
from geoclick.command import Command
from geoclick.config import option
from geoclick.errors import GeoClickError

REPO = Path(__file__).parents[1]
COMMANDS = (
    *("scenes", "synth", "quality", "export", "train sft", "train grpo"),
    *("merge", "card", "predict", "evaluate", "compare"),
)
LIBRARIES = ("[WARNING]", "UserWarning", "warnings.warn", "it/s]", "kernels-community")
"""Parts of the lines that libraries print."""


@dataclass(frozen=True, kw_only=True)
class StartupOptions:
    """Options of `python -m benchmarks.startup`."""

    output: str = option(help="folder for startup.json and the inputs")
    baseline: str | None = option(None, help="another checkout, measured in turns with this one")
    commands: tuple[str, ...] = option(COMMANDS, help="commands to measure", choices=COMMANDS)
    runs: int = option(5, help="runs of each command", minimum=1)


@dataclass(frozen=True)
class Start:
    """What a command took until its first line.

    Attributes:
        cpu_seconds: CPU time of its processes.
        seconds: wall-clock time.
        line: the line.
    """

    cpu_seconds: float
    seconds: float
    line: str


def arguments(command: str, checkout: Path, inputs: Path, output: Path) -> list[str]:
    """A command line on tiny inputs, with the recipes and the adapter of a checkout."""
    adapter = inputs / adapter_name(checkout)
    scenes, clicks, recipes = inputs / "scenes", inputs / clicks_name(checkout), checkout / "configs"
    image = inputs / "scenes" / "train" / "images" / "000000.png"
    words: dict[str, list[object]] = {
        "scenes": [output, "--count", 3],
        "synth": ["--root", scenes, "--split", "train", "--output", output],
        "quality": [clicks, "--root", scenes, "--output", output],
        "export": [clicks, "--root", scenes, "--layout", "ms-swift", "--output", output],
        "train sft": [
            *("--config", recipes / "sft/embedded.yaml", "--clicks", clicks, "--root", scenes),
            *("--max_steps", 1, "--output", output),
        ],
        "train grpo": [
            *("--config", recipes / "grpo/embedded.yaml", "--adapter", adapter),
            *("--root", scenes, "--max_steps", 1, "--output", output),
        ],
        "merge": [adapter, "--check-samples", 1, "--output", output],
        "card": [adapter],
        "predict": [image, "--text", "tank", "--adapter", adapter, "--output", output],
        "evaluate": [*("--root", scenes, "--split", "train", "--adapter", adapter, "--output", output)],
        "compare": [inputs / "a", inputs / "b", "--output", output],
    }
    return [*command.split(), *map(str, words[command])]


def adapter_name(checkout: Path) -> str:
    """The name of the folder of the adapter that a checkout has trained."""
    return f"adapter-{'here' if checkout == REPO else 'baseline'}"


def clicks_name(checkout: Path) -> str:
    """The name of the click store that a checkout has made."""
    return f"clicks-{'here' if checkout == REPO else 'baseline'}"


def make_inputs(folder: Path, checkouts: Iterable[Path]) -> None:
    """Scenes, two evaluations, a click store and an adapter of each checkout; those that exist are used again."""
    scenes = folder / "scenes"
    points = ["evaluate", "--root", scenes, "--split", "train", "--predictor", "center-point", "--output"]
    made: dict[Path, tuple[Path, Sequence[object]]] = {
        scenes: (REPO, ["scenes", scenes, "--count", 12]),
        folder / "a": (REPO, [*points, folder / "a"]),
        folder / "b": (REPO, [*points, folder / "b"]),
    }
    for checkout in checkouts:
        clicks, output = folder / clicks_name(checkout), folder / adapter_name(checkout)
        made[clicks] = (checkout, arguments("synth", checkout, folder, clicks))
        made[output] = (checkout, arguments("train sft", checkout, folder, output))
    for path, (checkout, words) in made.items():
        if not path.exists():
            command = [sys.executable, "-m", "geoclick.cli", *map(str, words)]
            subprocess.run(command, check=True, cwd=checkout, env=environment_of(checkout))


def environment_of(checkout: Path) -> dict[str, str]:
    """The environment in which the code of a checkout is imported, and not the installed one."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    return environment if checkout == REPO else environment | {"PYTHONPATH": str(checkout)}


def start(checkout: Path, words: Sequence[str]) -> Start:
    """Run a command of a checkout until its first line.

    Raises:
        GeoClickError: it ends without a line, or with an error.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "geoclick.cli", *words],
        cwd=checkout,
        env=environment_of(checkout),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    shown = psutil.Process(process.pid)
    try:
        for line in process.stdout or ():
            if line.strip() and not any(part in line for part in LIBRARIES):
                used = [one.cpu_times() for one in (shown, *shown.children(recursive=True))]
                cpu = sum(sum(times[:4]) for times in used)  # with those of ended children
                if line.startswith("error:"):
                    raise GeoClickError(f"{' '.join(words)} in {checkout} fails: {line.strip()}")
                return Start(cpu, time.monotonic() - began, line.strip())
    finally:
        for one in (*shown.children(recursive=True), shown):
            one.kill()
        process.wait()
    raise GeoClickError(f"{' '.join(words)} in {checkout} prints nothing; run it there to see why.")


def run(options: StartupOptions) -> None:
    """Measure the commands in turns, print the table and write the figures."""
    folder = Path(options.output)
    inputs = folder / "inputs"
    checkouts = {"here": REPO} | ({"baseline": Path(options.baseline).resolve()} if options.baseline else {})
    make_inputs(inputs, checkouts.values())
    figures: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'':<12}{'CPU s':>8}{'s':>8}{'baseline':>10}{'ratio':>7}  first line")
    for command in options.commands:
        starts: dict[str, list[Start]] = {name: [] for name in checkouts}
        for number in range(options.runs):
            for name, checkout in checkouts.items():
                output = folder / "outputs" / f"{command}-{name}-{number}-{time.time_ns()}"
                starts[name].append(start(checkout, arguments(command, checkout, inputs, output)))
        figures[command] = {name: medians(measured) for name, measured in starts.items()}
        here, other = figures[command]["here"], figures[command].get("baseline")
        cpu = here["cpu_seconds"]
        ratio = f"{other['cpu_seconds']:>10.2f}{cpu / other['cpu_seconds']:>7.2f}" if other else ""
        row = f"{command:<12}{cpu:>8.2f}{here['seconds']:>8.2f}{ratio:>17}"
        print(f"{row}  {starts['here'][0].line[:60]}", flush=True)
        files.write_whole(folder / "startup.json", json.dumps(figures, indent=2) + "\n")
    config.write_config(options, folder)


def medians(starts: Sequence[Start]) -> dict[str, float]:
    """The medians of some starts."""
    return {
        "cpu_seconds": statistics.median(one.cpu_seconds for one in starts),
        "seconds": statistics.median(one.seconds for one in starts),
    }


main = Command(
    prog="python -m benchmarks.startup",
    options=StartupOptions,
    run=run,
    description="Measure the time of each command until its first line.",
    example="python -m benchmarks.startup --baseline ../other-checkout --output runs/startup",
)


if __name__ == "__main__":
    sys.exit(main())
