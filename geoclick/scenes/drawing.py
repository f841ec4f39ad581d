"""Scenes with queries: a single one by its number, or a split of them as a plain folder."""

import json
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from geoclick import files, images, masks
from geoclick.errors import UsageError
from geoclick.progress_bar import track
from geoclick.scenes import SIZE, generate, render
from geoclick.scenes.queries import Query, ask, observe
from geoclick.scenes.varied_layout import generate_varied
from geoclick.scenes.varied_queries import ask_varied

TASKS = ("referring", "reasoning", "no_target")
VARIED_TASKS = (*TASKS, "all_of_a_kind", "several_by_purpose", "hard")
"""Kinds of query of scenes of version 2."""

MAX_ATTEMPTS = 1000
"""Layouts that are tried for one scene; in practice a few are enough."""


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """What determines the files of a split.

    Attributes:
        split: the name; each split has scenes of its own for the same seed.
        count: number of samples.
        seed: the same seed gives the same files.
        tasks: of TASKS, with version 2 of VARIED_TASKS; every scene gets one query of each.
        version: of the scenes; 2 has groups and hard objects.
    """

    split: str
    count: int
    seed: int
    tasks: tuple[str, ...] = TASKS
    version: int = 1


def sample_scene(
    seed: int, split: str, index: int, tasks: Sequence[str], version: int = 1
) -> tuple[np.ndarray, np.ndarray, list[Query]]:
    """The scene number `index` of a split: its image, its map of ids (see `render`) and one query of each task.

    A layout that allows no query of one of the tasks is skipped; the same seed determines the next one.
    """
    for attempt in range(MAX_ATTEMPTS):
        key = (seed, zlib.crc32(split.encode()), index, attempt)
        scene = generate(key) if version == 1 else generate_varied(key)
        image, ids = render(scene)
        facts, rng = observe(scene, ids), np.random.default_rng([*key, 2])
        asked = ask if version == 1 else ask_varied
        queries = [query for task in tasks if (query := asked(facts, rng, task))]
        if len(queries) == len(tasks):
            return image, ids, queries
    raise AssertionError(f"{MAX_ATTEMPTS} layouts without a query")


def target_mask(ids: np.ndarray, query: Query) -> np.ndarray:
    """The target of a query in a map of ids, bool [H, W]; empty if there is no target."""
    return np.isin(ids, [index + 1 for index in query.targets])


def check_new(folder: Path) -> None:
    """Raise UsageError if the split of a folder has been drawn already."""
    index = folder / "samples.jsonl"
    if index.exists():
        raise UsageError(f"{index} exists already; name another OUT or --split, or remove it.")


def write_split(folder: Path, options: SplitOptions, workers: int) -> None:
    """Draw a split in parallel processes; `samples.jsonl` is written last, so a folder that has it is complete."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    scenes = -(-options.count // len(options.tasks))
    with ProcessPoolExecutor(min(workers, scenes)) as pool:
        results = pool.map(partial(_write_scene, folder=folder, options=options), range(scenes), chunksize=8)
        rows = [row for scene_rows in track(results, "Drawing scenes", total=scenes) for row in scene_rows]
    lines = [json.dumps(row) + "\n" for row in rows[: options.count]]
    files.write_whole(folder / "samples.jsonl", "".join(lines))
    print(f"{len(lines)} samples of {scenes} scenes in {folder}")


def _write_scene(index: int, *, folder: Path, options: SplitOptions) -> list[dict[str, Any]]:
    """Write the image of one scene and return the rows of its samples."""
    image, ids, queries = sample_scene(options.seed, options.split, index, options.tasks, options.version)
    name = f"images/{index:06d}.png"
    images.write_png(folder / name, image)
    return [_row(options.split, index, name, query, ids) for query in queries]


def _row(split: str, index: int, image: str, query: Query, ids: np.ndarray) -> dict[str, Any]:
    """The row of a sample; those with several objects or a hard one say so."""
    row: dict[str, Any] = {
        "sample_id": f"{split}-{index:06d}-{query.task}",
        "task": query.task,
        "query": query.text,
        "image": image,
        "size": [SIZE, SIZE],
        "mask": masks.encode_rle(target_mask(ids, query)),
        "category": " and ".join(query.kinds),
    }
    if len(query.targets) > 1:
        row["instances"] = [masks.encode_rle(ids == target + 1) for target in query.targets]
    return row | ({"feature": query.feature} if query.feature else {})
