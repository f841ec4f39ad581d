"""Speed and memory of `geoclick synth` as the number of masks grows.

    python -m benchmarks.scaling --output runs/scaling

For each number of masks, draws a dataset of small discs and runs `geoclick synth` on it in a process of its own. Writes
scaling.json: masks per second of the complete command and the peak memory of the process.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import measured_command
from geoclick import config, files
from geoclick.command import Command
from geoclick.config import option

MASKS_AN_IMAGE = 50
SIZE = 256


@dataclass(frozen=True)
class ScalingOptions:
    """Options of `python -m benchmarks.scaling`."""

    output: str = option(help="folder for the datasets, the stores and scaling.json")
    masks: tuple[int, ...] = option((1000, 10_000, 50_000), help="numbers of masks, one run each", minimum=1)
    clicks: int = option(1, help="clicks per sequence", minimum=1)
    seed: int = option(0, help="random seed (discs)")


def draw(folder: Path, count: int, seed: int) -> None:
    """A plain folder with the split `train`: discs on noise, `MASKS_AN_IMAGE` on each image of SIZE pixels."""
    from geoclick.images import write_png
    from geoclick.masks import encode_rle

    split = folder / "train"
    (split / "images").mkdir(parents=True, exist_ok=True)
    random, lines = np.random.default_rng(seed), []
    ys, xs = np.ogrid[:SIZE, :SIZE]
    for start in range(0, count, MASKS_AN_IMAGE):
        image = random.integers(60, 120, (SIZE, SIZE, 3), dtype=np.uint8)
        for number in range(start, min(start + MASKS_AN_IMAGE, count)):
            (x, y), radius = random.integers(12, SIZE - 12, 2), random.integers(4, 12)
            disc = (xs - x) ** 2 + (ys - y) ** 2 <= radius**2
            image[disc] = random.integers(130, 255, 3)
            lines.append(
                {
                    "sample_id": f"disc-{number}",
                    "task": "referring",
                    "query": "the disc",
                    "image": f"images/{start}.png",
                    "size": [SIZE, SIZE],
                    "mask": encode_rle(disc),
                }
            )
        write_png(split / "images" / f"{start}.png", image)
    files.write_whole(split / "samples.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def synthesize(data: Path, output: Path, clicks: int) -> dict[str, float]:
    """Run `geoclick synth` on a generated folder; time in seconds and peak memory in MB."""
    usage = measured_command.measure(
        "geoclick.data_synthesis.run",
        *("--root", data, "--output", output, "--max-clicks", clicks, "--sheet", 0, "--device", "cpu"),
    )
    return {
        "seconds": round(usage.seconds, 2),
        "cpu_seconds": round(usage.cpu_seconds, 2),
        "peak_mb": round(usage.peak_mb, 1),
    }


def run(options: ScalingOptions) -> None:
    """Measure each number of masks, and print and write the results."""
    folder, rows = Path(options.output), []
    config.write_config(options, folder)
    for count in options.masks:
        data = folder / f"{count}"
        draw(data, count, options.seed)
        row = {"masks": count} | synthesize(data, folder / f"{count}-clicks", options.clicks)
        rows.append(row | {"masks_per_second": round(count / row["seconds"], 1)})
        print(json.dumps(rows[-1]), flush=True)
    files.write_whole(folder / "scaling.json", json.dumps(rows, indent=1) + "\n")


main = Command(
    prog="python -m benchmarks.scaling",
    options=ScalingOptions,
    run=run,
    description="Measure speed and memory of geoclick synth by number of masks.",
    example="python -m benchmarks.scaling --output runs/scaling",
)


if __name__ == "__main__":
    sys.exit(main())
