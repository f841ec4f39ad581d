"""Scenes drawn once and kept on disk, so that the embedded models can be trained on them many times over."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from geoclick.scenes import SIZE, Scene, Thing, generate, render

CHUNK = 50
"""Scenes that a worker draws between two messages."""


@dataclass(frozen=True)
class SceneCache:
    """Drawn scenes: images uint8 [N, 256, 256, 3], ids uint8 [N, 256, 256] and each scene's objects.

    The objects know their kind and colour but not their outline, which the maps of ids already tell.
    """

    images: np.ndarray
    ids: np.ndarray
    scenes: tuple[Scene, ...]


def _draw(seeds: Sequence[tuple[int, ...]], difficulty: int) -> tuple[np.ndarray, np.ndarray, list]:
    drawn = [(scene, *render(scene)) for scene in (generate(seed, difficulty) for seed in seeds)]
    things = [[(thing.kind, thing.colour) for thing in scene.objects] for scene, _, _ in drawn]
    return np.stack([i for _, i, _ in drawn]), np.stack([m for _, _, m in drawn]).astype(np.uint8), things


def load(folder: Path, *, count: int, seed: int, difficulty: int = 2) -> SceneCache:
    """The scenes (seed, difficulty, 0 ... count - 1), drawn on the first call and mapped from disk afterwards."""
    folder = folder / f"scenes-{seed}-{difficulty}-{count}"
    index = folder / "objects.json"
    if not index.exists():
        _build(folder, count=count, seed=seed, difficulty=difficulty)
    nowhere = np.zeros((0, 2))
    scenes = tuple(
        Scene(
            (seed, difficulty, i),
            0.0,
            "",
            0.0,
            tuple(Thing(kind, colour, nowhere, 0.0) for kind, colour in things),
        )
        for i, things in enumerate(json.loads(index.read_text(encoding="utf-8")))
    )
    return SceneCache(
        np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "ids.npy", mmap_mode="r"), scenes
    )


def _build(folder: Path, *, count: int, seed: int, difficulty: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (count, SIZE, SIZE, 3))
    ids = np.lib.format.open_memmap(folder / "ids.npy", "w+", np.uint8, (count, SIZE, SIZE))
    starts = range(0, count, CHUNK)
    seeds = [[(seed, difficulty, i) for i in range(a, min(a + CHUNK, count))] for a in starts]
    objects = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        chunks = pool.map(_draw, seeds, [difficulty] * len(seeds))
        for start, (drawn, maps, things) in track(
            zip(starts, chunks, strict=True), "Drawing scenes", len(seeds)
        ):
            images[start : start + len(drawn)], ids[start : start + len(maps)] = drawn, maps
            objects += things
    images.flush()
    ids.flush()
    (folder / "objects.json").write_text(json.dumps(objects), encoding="utf-8")
