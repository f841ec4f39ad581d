"""Scenes drawn once and kept on disk, so that the embedded models can be trained on them many times over."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from geoclick import files
from geoclick.distance import deepest_pixel
from geoclick.scenes import SIZE, generate, render
from geoclick.scenes.queries import Fact, observe

CHUNK = 50
"""Scenes that a worker draws between two messages."""


@dataclass(frozen=True)
class Seen:
    """A visible object and the pixel (x, y) in it that is farthest from its outside: where one would click."""

    fact: Fact
    point: tuple[int, int]


@dataclass(frozen=True)
class SceneCache:
    """Drawn scenes: images uint8 [N, 256, 256, 3], ids uint8 [N, 256, 256] and what is seen in each."""

    images: np.ndarray
    ids: np.ndarray
    seen: tuple[tuple[Seen, ...], ...]


def _draw(seeds: Sequence[tuple[int, ...]], difficulty: int) -> tuple[np.ndarray, np.ndarray, list]:
    images, maps, seen = [], [], []
    for seed in seeds:
        scene = generate(seed, difficulty)
        image, ids = render(scene)
        images.append(image)
        maps.append(ids.astype(np.uint8))
        seen.append([[*astuple(f), *deepest_pixel(ids == f.index + 1)] for f in observe(scene, ids)])
    return np.stack(images), np.stack(maps), seen


def load(folder: Path, *, count: int, seed: int, difficulty: int = 2) -> SceneCache:
    """The scenes (seed, difficulty, 0 ... count - 1), drawn on the first call and mapped from disk afterwards."""
    folder = folder / f"scenes-{seed}-{difficulty}-{count}"
    index = folder / "seen.json"
    if not index.exists():
        _build(folder, count=count, seed=seed, difficulty=difficulty)
    rows = json.loads(index.read_text(encoding="utf-8"))
    seen = tuple(tuple(Seen(Fact(*row[:-2]), tuple(row[-2:])) for row in scene) for scene in rows)
    return SceneCache(
        np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "ids.npy", mmap_mode="r"), seen
    )


def _build(folder: Path, *, count: int, seed: int, difficulty: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (count, SIZE, SIZE, 3))
    ids = np.lib.format.open_memmap(folder / "ids.npy", "w+", np.uint8, (count, SIZE, SIZE))
    starts = range(0, count, CHUNK)
    seeds = [[(seed, difficulty, i) for i in range(a, min(a + CHUNK, count))] for a in starts]
    index = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        chunks = pool.map(_draw, seeds, [difficulty] * len(seeds))
        for start, (drawn, maps, seen) in track(
            zip(starts, chunks, strict=True), "Drawing scenes", len(seeds)
        ):
            images[start : start + len(drawn)], ids[start : start + len(maps)] = drawn, maps
            index += seen
    images.flush()
    ids.flush()
    files.write_whole(folder / "seen.json", json.dumps(index))
