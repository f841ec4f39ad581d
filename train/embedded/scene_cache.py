"""Scenes rendered once and cached on disk, for many epochs of training of the embedded models."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from geoclick import files, output_folder
from geoclick.distance import deepest_pixel
from geoclick.progress_bar import track
from geoclick.scenes import SIZE, generate, render
from geoclick.scenes.queries import Fact, observe
from geoclick.scenes.varied_layout import generate_varied

CHUNK = 50
"""Scenes per task of a worker process."""
PATIENCE = 3600.0
"""Seconds to wait for another training that renders the same scenes."""


@dataclass(frozen=True)
class VisibleObject:
    """A visible object and its deepest pixel (x, y), where one would click."""

    fact: Fact
    point: tuple[int, int]


@dataclass(frozen=True)
class SceneCache:
    """Rendered scenes: images uint8 [N, 256, 256, 3], object maps uint8 [N, 256, 256] and the objects of each.

    A pixel of an object map is 0 without an object, else the index of the object plus one.
    """

    images: np.ndarray
    ids: np.ndarray
    objects: tuple[tuple[VisibleObject, ...], ...]


Row = list[Any]
"""A visible object in JSON: the values of its Fact, then x and y of its deepest pixel."""


def _render_scenes(
    seeds: Sequence[tuple[int, ...]], difficulty: int, version: int
) -> tuple[np.ndarray, np.ndarray, list[list[Row]]]:
    images, maps, objects = [], [], []
    for seed in seeds:
        scene = generate(seed, difficulty) if version == 1 else generate_varied(seed)
        image, ids = render(scene)
        images.append(image)
        maps.append(ids.astype(np.uint8))
        points = [(fact, deepest_pixel(ids == fact.index + 1)) for fact in observe(scene, ids)]
        objects.append([[*astuple(fact), *point] for fact, point in points if point])
    return np.stack(images), np.stack(maps), objects


def folder_of(cache: Path, *, count: int, seed: int, difficulty: int = 2, version: int = 1) -> Path:
    """The folder of a cache that holds the scenes (seed, difficulty, 0 ... count - 1) of a version."""
    varied = "" if version == 1 else f"-version{version}"
    return cache / f"scenes-{seed}-{difficulty}-{count}{varied}"


def load(folder: Path, *, count: int, seed: int, difficulty: int = 2, version: int = 1) -> SceneCache:
    """The scenes (seed, difficulty, 0 ... count - 1), rendered by the first call and memory-mapped from disk.

    Scenes of version 2 are always full, difficulty 2.
    """
    folder = folder_of(folder, count=count, seed=seed, difficulty=difficulty, version=version)
    index = folder / "seen.json"
    if not index.exists():
        with output_folder.locked(folder / output_folder.LOCK, folder, "embedded", patience=PATIENCE):
            if not index.exists():
                seeds = [(seed, difficulty, i) for i in range(count)]
                _build(folder, seeds, difficulty, version)
    rows = json.loads(index.read_text(encoding="utf-8"))
    objects = tuple(tuple(VisibleObject(Fact(*row[:-2]), tuple(row[-2:])) for row in scene) for scene in rows)
    return SceneCache(
        np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "ids.npy", mmap_mode="r"), objects
    )


def _build(folder: Path, seeds: Sequence[tuple[int, ...]], difficulty: int, version: int) -> None:
    """Render the scenes of some seeds into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    count, starts = len(seeds), range(0, len(seeds), CHUNK)
    chunks = [seeds[start : start + CHUNK] for start in starts]
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (count, SIZE, SIZE, 3))
    ids = np.lib.format.open_memmap(folder / "ids.npy", "w+", np.uint8, (count, SIZE, SIZE))
    index: list[list[Row]] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(_render_scenes, chunks, repeat(difficulty), repeat(version))
        pairs = zip(starts, results, strict=True)
        for start, (rendered, maps, objects) in track(pairs, "render scenes", len(chunks)):
            images[start : start + len(rendered)], ids[start : start + len(maps)] = rendered, maps
            index += objects
    images.flush()
    ids.flush()
    files.write_whole(folder / "seen.json", json.dumps(index))
