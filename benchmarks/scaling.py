"""Whether `geoclick synth` stays as fast and as small when the masks become many.

    python -m benchmarks.scaling --output runs/scaling

Draws a dataset of small discs for each number of masks, runs `geoclick synth` on it in a process of its own, and writes
scaling.json: masks a second of the whole command and the most memory that the process held.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoclick import config, files
from geoclick.command import Command
from geoclick.config import option

MASKS_AN_IMAGE = 50
SIZE = 256


@dataclass(frozen=True)
class ScalingOptions:
    """What `python -m benchmarks.scaling` takes."""

    output: str = option(help="folder for the datasets, the stores and scaling.json")
    masks: tuple[int, ...] = option((1000, 10_000, 50_000), help="numbers of masks, one run each", minimum=1)
    clicks: int = option(1, help="clicks of a sequence", minimum=1)
    seed: int = option(0, help="of the discs")


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


def synthesise(data: Path, output: Path, clicks: int) -> dict[str, float]:
    """Run `geoclick synth` on a drawn folder; seconds and the process's peak memory in MB."""
    words = ["--root", data, "--output", output, "--clicks", clicks, "--sheet", 0, "--device", "cpu"]
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "geoclick.data_synthesis.run", *map(str, words)])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("geoclick synth failed; see what it says above.")
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss / 1024, 1),
    }


def run(options: ScalingOptions) -> None:
    """Measure each number of masks, print and write."""
    folder, rows = Path(options.output), []
    config.write_config(options, folder)
    for count in options.masks:
        data = folder / f"{count}"
        draw(data, count, options.seed)
        row = {"masks": count} | synthesise(data, folder / f"{count}-clicks", options.clicks)
        rows.append(row | {"masks_per_second": round(count / row["seconds"], 1)})
        print(json.dumps(rows[-1]), flush=True)
    files.write_whole(folder / "scaling.json", json.dumps(rows, indent=1) + "\n")


main = Command(
    prog="python -m benchmarks.scaling",
    options=ScalingOptions,
    run=run,
    description="Measure geoclick synth against the number of masks.",
    example="python -m benchmarks.scaling --output runs/scaling",
)


if __name__ == "__main__":
    sys.exit(main())
