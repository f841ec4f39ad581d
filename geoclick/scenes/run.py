"""`geoclick scenes OUT --count N`: procedural overhead scenes with masks and queries, in the plain-folder layout.

With `--layout NAME` they are written as a tiny copy of a public dataset, to try what reads it.
"""

import json
import os
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import track

from geoclick import config, files, images, masks
from geoclick.command import Command
from geoclick.config import option
from geoclick.datasets.benchmarks import BENCHMARKS
from geoclick.errors import UsageError
from geoclick.scenes import SIZE, generate, render
from geoclick.scenes.copies import LAYOUTS
from geoclick.scenes.queries import Query, ask, observe

TASKS = ("referring", "reasoning", "no_target")
COUNT, COPY_COUNT = 300, 6


@dataclass(frozen=True)
class ScenesOptions:
    """What `geoclick scenes` takes."""

    output: str = option(positional=True, help="folder to write; each split is a folder in it")
    count: int | None = option(
        None,
        help=f"number of samples, {COUNT} when none; of a --layout, images of its scored split, {COPY_COUNT} when none",
        minimum=1,
    )
    split: str = option("train", help="name of the split; each split has scenes of its own for the same seed")
    seed: int = option(0, help="the same seed gives the same files", minimum=0)
    tasks: tuple[str, ...] = option(TASKS, help="kinds of query, asked in turn of every scene", choices=TASKS)
    workers: int = option(os.cpu_count() or 1, help="processes that draw", minimum=1)
    layout: str | None = option(
        None,
        choices=tuple(LAYOUTS),
        help="public dataset of which a tiny copy is written; plain folders when none",
    )


def sample_scene(
    seed: int, split: str, index: int, tasks: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, list[Query]]:
    """The scene number `index` of a split: its image, its map of ids and one query of each task.

    A layout about which one of the tasks can ask nothing is passed over for the next one by the same seed.
    """
    for attempt in range(1000):
        key = (seed, zlib.crc32(split.encode()), index, attempt)
        scene = generate(key)
        image, ids = render(scene)
        facts, rng = observe(scene, ids), np.random.default_rng([*key, 2])
        queries = [query for task in tasks if (query := ask(facts, rng, task))]
        if len(queries) == len(tasks):
            return image, ids, queries
    raise AssertionError("a thousand layouts without a question")


def _write(index: int, *, folder: Path, options: ScenesOptions) -> list[dict]:
    """Write the image of one scene and return the rows of its samples."""
    image, ids, queries = sample_scene(options.seed, options.split, index, options.tasks)
    name = f"images/{index:06d}.png"
    images.write_png(folder / name, image)
    return [
        {
            "sample_id": f"{options.split}-{index:06d}-{query.task}",
            "task": query.task,
            "query": query.text,
            "image": name,
            "size": [SIZE, SIZE],
            "mask": masks.encode_rle(ids == (-1 if query.target is None else query.target + 1)),
            "category": query.rule.kind,
        }
        for query in queries
    ]


def run(options: ScenesOptions) -> None:
    """Draw the scenes in the layout that is asked for."""
    if options.layout is None:
        write_folder(replace(options, count=options.count or COUNT))
    else:
        write_copy(replace(options, count=options.count or COPY_COUNT))


def write_copy(options: ScenesOptions) -> None:
    """Write a tiny copy of a public dataset in a new folder."""
    for field in fields(ScenesOptions):
        if field.name in ("split", "tasks") and getattr(options, field.name) != field.default:
            raise UsageError(
                f"--{field.name} is not for --layout, which has splits and questions of its own; leave it out."
            )
    root = Path(options.output)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(f"{root} is there already and not an empty folder; name another OUT, or remove it.")
    LAYOUTS[options.layout](root, options.count, options.seed)
    config.write_config(options, root)
    print(f"A copy of {options.layout} with {options.count} images is in {root}.")
    if options.layout in BENCHMARKS:
        print(
            f"Read it by --dataset {options.layout} --root {root} --split {BENCHMARKS[options.layout].split}"
        )


def write_folder(options: ScenesOptions) -> None:
    """Draw plain folders in parallel; `samples.jsonl` is written last, so that a folder that has it is whole."""
    folder = Path(options.output) / options.split
    index = folder / "samples.jsonl"
    if index.exists():
        raise UsageError(f"{index} exists already; name another OUT or --split, or remove it.")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    scenes = -(-options.count // len(options.tasks))
    with ProcessPoolExecutor(options.workers) as pool:
        results = pool.map(partial(_write, folder=folder, options=options), range(scenes), chunksize=8)
        rows = [row for found in track(results, "Drawing scenes", total=scenes) for row in found][
            : options.count
        ]
    config.write_config(options, folder)
    files.write_whole(index, "".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(rows)} samples of {scenes} scenes in {folder}")


main = Command(
    prog="geoclick scenes",
    options=ScenesOptions,
    run=run,
    description="Draw procedural overhead scenes with exact masks and queries, as plain folders or as a tiny copy "
    "of a public dataset.",
    example="geoclick scenes runs/scenes --count 300 --split train\n"
    "  geoclick scenes runs/loveda --layout loveda --count 6",
)


if __name__ == "__main__":
    sys.exit(main())
