"""Training frames for the embedded SAM: scenes and crops of real tiles, each with an object map."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import label

from geoclick.errors import GeoClickError
from geoclick.geo.reading import read_image
from geoclick.scenes import SIZE
from geoclick.train.embedded.scene_cache import SceneCache

OUTSIDE = -1
"""Id of the padding of an image that is not square."""

SMALLEST = 24
"""Fewest visible pixels of an object to train on."""


@dataclass(frozen=True, eq=False)
class Frame:
    """An image with its objects.

    Attributes:
        image: uint8 [S, S, 3] RGB.
        ids: int32 [S, S]: 0 without an object, OUTSIDE in the padding, else the id of the object.
    """

    image: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True, eq=False)
class Tile:
    """A real tile: image uint8 [H, W, 3] and classes uint8 [H, W], 0 where unlabeled."""

    image: np.ndarray
    classes: np.ndarray


def read_tiles(root: Path, accept: Callable[[str], bool]) -> list[Tile]:
    """The tiles in `root` (images/, masks/ and classes.json) whose stem `accept` returns true for.

    Raises:
        GeoClickError: classes.json cannot be read, or there are no such tiles.
    """
    try:
        table = json.loads((root / "classes.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GeoClickError(
            f"{root}/classes.json cannot be read; give --tiles a folder with images/, masks/ and that file."
        ) from error
    ignored = {tuple(color) for color in table.get("ignore", [])}
    colors = [tuple(c) for c in table["classes"].values() if tuple(c) not in ignored]
    tiles = []
    for path in sorted((root / "images").iterdir()):
        if not accept(path.stem):
            continue
        image = read_image(path)
        mask = read_image(root / "masks" / f"{path.stem}.png", size=image.shape[:2])
        classes = np.zeros(mask.shape[:2], np.uint8)
        for number, color in enumerate(colors, start=1):
            classes[(mask == color).all(-1)] = number
        tiles.append(Tile(image, classes))
    if not tiles:
        raise GeoClickError(f"{root} holds no tiles to use; check its images/ folder.")
    return tiles


def components(classes: np.ndarray) -> np.ndarray:
    """Connected components (8 neighbors) of equal class as ids, int32 [H, W]; 0 stays 0."""
    ids = np.zeros(classes.shape, np.int32)
    for number in np.unique(classes[classes > 0]):
        parts, _ = label(classes == number, np.ones((3, 3)))
        ids = np.where(parts > 0, parts + ids.max(), ids)
    return ids


def scene_frame(caches: Sequence[SceneCache], rng: np.random.Generator) -> Frame:
    """A random scene of all caches, rotated, mirrored and recolored."""
    index = int(rng.integers(sum(len(cache.images) for cache in caches)))
    for cache in caches:
        if index < len(cache.images):
            break
        index -= len(cache.images)
    image, ids = _rotate_and_mirror(cache.images[index], cache.ids[index].astype(np.int32), rng)
    return Frame(_recolor(image, rng), ids)


def tile_frame(tiles: list[Tile], rng: np.random.Generator) -> Frame:
    """A random crop of a random tile, from 160 pixels to the full tile, its longer side scaled to SIZE."""
    tile = tiles[int(rng.integers(len(tiles)))]
    height, width = tile.classes.shape
    if rng.random() < 0.7:
        side = np.exp(rng.uniform(np.log(160), np.log(max(height, width))))
        height, width = (min(int(side * rng.uniform(0.7, 1)), length) for length in (height, width))
    top = int(rng.integers(tile.classes.shape[0] - height + 1))
    left = int(rng.integers(tile.classes.shape[1] - width + 1))
    part = np.s_[top : top + height, left : left + width]
    scale = SIZE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = np.asarray(Image.fromarray(tile.image[part]).resize(size, Image.Resampling.BILINEAR))
    classes = np.asarray(Image.fromarray(tile.classes[part]).resize(size, Image.Resampling.NEAREST))
    image, classes = _rotate_and_mirror(image, classes, rng)
    below, right = SIZE - image.shape[0], SIZE - image.shape[1]
    return Frame(
        np.pad(_recolor(image, rng), ((0, below), (0, right), (0, 0))),
        np.pad(components(classes), ((0, below), (0, right)), constant_values=OUTSIDE),
    )


def crop(frame: Frame, side: int, rng: np.random.Generator) -> Frame:
    """A random square crop of a frame."""
    top, left = rng.integers(SIZE - side + 1, size=2)
    part = np.s_[top : top + side, left : left + side]
    return Frame(frame.image[part], frame.ids[part])


def pick_objects(ids: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray | None:
    """Masks bool [count, S, S] of random objects, large ones somewhat more often; None if the frame has none.

    Objects repeat only if there are fewer than `count`.
    """
    numbers, areas = np.unique(ids[ids > 0], return_counts=True)
    numbers, areas = numbers[areas >= SMALLEST], areas[areas >= SMALLEST]
    if not len(numbers):
        return None
    weights = areas**0.25 / (areas**0.25).sum()
    drawn = rng.choice(numbers, count, replace=len(numbers) < count, p=weights)
    return ids == drawn[:, None, None]


def _rotate_and_mirror(
    image: np.ndarray, ids: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    quarter_turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    image, ids = np.rot90(image, quarter_turns), np.rot90(ids, quarter_turns)
    return (image[:, ::-1], ids[:, ::-1]) if mirror else (image, ids)


def _recolor(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    gain = rng.uniform(0.75, 1.25) * rng.normal(1, 0.06, 3)
    table = np.clip((np.arange(256)[:, None] - 128) * gain + 128 + rng.normal(0, 15), 0, 255).astype(np.uint8)
    return np.stack([table[image[..., channel], channel] for channel in range(3)], axis=-1)
