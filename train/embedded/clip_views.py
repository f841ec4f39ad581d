"""Views of scenes for the embedded CLIP: square crops with their objects, and what covers each patch."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from geoclick import files
from geoclick.scenes import SIZE, generate
from geoclick.train.embedded import scene_cache
from geoclick.train.embedded.clip_processor import PATCH
from geoclick.train.embedded.clip_words import CATEGORIES, CATEGORY_INDEX
from geoclick.train.embedded.scene_cache import SceneCache

SCALES = (0.25, 1.0)
"""Smallest and largest side of a view, as a share of the scene's."""

CLEAR_PIXELS, CLEAR_SHARE, LARGE_PIXELS = 16, 0.25, 300
"""An object is clearly visible with CLEAR_PIXELS that are CLEAR_SHARE of it, or with LARGE_PIXELS."""

UNCLEAR_PIXELS = 3
"""From this number of visible pixels on, an object may count as visible."""

GROUND_SHARE = 0.05
"""Share of a view from which its ground is clearly visible."""

COVERED, COVERED_BEST = 0.4, 0.2
"""A region is learned in the patches of which it covers COVERED; or COVERED_BEST, in its best one."""

IS_OBJECT = np.array([color != "" for _, color in CATEGORIES])
"""Which categories are those of objects, not of grounds."""


@dataclass(frozen=True)
class Scenes:
    """Cached scenes, with the category of each ground."""

    cache: SceneCache
    grounds: Sequence[int]


@dataclass(frozen=True)
class View:
    """A square crop of a scene.

    Attributes:
        image: uint8 [S, S, 3].
        categories: of each region that is learned (objects and ground), int [regions].
        weights: of the patches of each region, float32 [regions, patches]; rows sum to 1.
        fewest, most: rows of `clip_captions.Counts`, int [categories].
    """

    image: np.ndarray
    categories: np.ndarray
    weights: np.ndarray
    fewest: np.ndarray
    most: np.ndarray


def load_scenes(folder: Path, *, count: int, seed: int) -> Scenes:
    """The full scenes (seed, 2, 0 ... count - 1) of the cache, rendered by the first call."""
    cache = scene_cache.load(folder, count=count, seed=seed)
    index = scene_cache.folder_of(folder, count=count, seed=seed) / "grounds.json"
    if not index.exists():
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            names = list(pool.map(partial(_ground, seed), range(count), chunksize=50))
        files.write_whole(index, json.dumps(names))
    names = json.loads(index.read_text(encoding="utf-8"))
    return Scenes(cache, [CATEGORY_INDEX[name, ""] for name in names])


def _ground(seed: int, index: int) -> str:
    return generate((seed, 2, index), 2).ground


def random_view(scenes: Scenes, rng: np.random.Generator, side: int) -> View:
    """A random crop of a random scene, rotated and mirrored, at `side` pixels."""
    cache, index = scenes.cache, int(rng.integers(len(scenes.grounds)))
    length = round(SIZE * float(np.exp(rng.uniform(*np.log(SCALES)))))
    top, left = rng.integers(SIZE - length + 1, size=2)
    part = np.s_[top : top + length, left : left + length]
    image, ids = cache.images[index][part], cache.ids[index][part]
    turns = int(rng.integers(4))
    image, ids = np.rot90(image, turns), np.rot90(ids, turns)
    if rng.random() < 0.5:
        image, ids = image[:, ::-1], ids[:, ::-1]
    small = Image.fromarray(np.ascontiguousarray(image)).resize((side, side), Image.Resampling.BILINEAR)
    places = (2 * np.arange(side) + 1) * length // (2 * side)
    return _view(scenes, index, np.asarray(small), ids[places][:, places], side / length)


def _view(scenes: Scenes, index: int, image: np.ndarray, ids: np.ndarray, zoom: float) -> View:
    """The view with an image and a map of ids at the same size; `zoom` is the size relative to the scene's."""
    facts = [item.fact for item in scenes.cache.objects[index]]
    categories = np.array([scenes.grounds[index]] + [CATEGORY_INDEX[fact.kind, fact.color] for fact in facts])
    shares = _shares(ids, [fact.index for fact in facts])
    area = shares.sum(1) * PATCH**2
    full = np.array([0] + [fact.area for fact in facts]) * zoom**2
    clear = (area >= CLEAR_PIXELS) & (area >= CLEAR_SHARE * full) | (area >= LARGE_PIXELS)
    clear[0], perhaps = area[0] >= GROUND_SHARE * ids.size, area >= UNCLEAR_PIXELS
    fewest, most = (np.bincount(categories[which], minlength=len(CATEGORIES)) for which in (clear, perhaps))
    fewest[~IS_OBJECT], most[~IS_OBJECT] = fewest[~IS_OBJECT] > 0, most[~IS_OBJECT] > 0
    best = shares.max(1, keepdims=True)
    weights = shares * ((shares >= COVERED) | (shares == best) & (shares >= COVERED_BEST))
    learned = weights.any(1)
    weights = weights[learned] / weights[learned].sum(1, keepdims=True)
    return View(image, categories[learned], weights.astype(np.float32), fewest, most)


def _shares(ids: np.ndarray, objects: Sequence[int]) -> np.ndarray:
    """The share of each patch that the ground and each object cover, float64 [1 + objects, patches]."""
    number = np.zeros(256, np.int64)
    number[[index + 1 for index in objects]] = np.arange(1, len(objects) + 1)
    grid, patch = len(ids) // PATCH, np.arange(len(ids)) // PATCH
    cell = patch[:, None] * grid + patch[None]
    regions = len(objects) + 1
    pixels = np.bincount((cell * regions + number[ids]).ravel(), minlength=grid * grid * regions)
    return pixels.reshape(-1, regions).T / PATCH**2
