"""Rendering a scene: texture, light, shadows, haze, blur and noise, with an exact map of ids."""

import numpy as np
from PIL import Image

from geoclick.scenes.kinds import GROUNDS, KINDS
from geoclick.scenes.layout import Scene, Thing
from geoclick.scenes.outlines import SIZE, fill


def _waves(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise with about `cells` bumps a side, float32 [SIZE, SIZE] of mean 0 and spread about 1."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _local(thing: Thing, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along and across an object, in pixels from its middle."""
    x0, y0 = (thing.outline.max(0) + thing.outline.min(0)) / 2
    cos, sin = np.cos(thing.angle), np.sin(thing.angle)
    dx, dy = columns - x0, rows - y0
    return dx * cos + dy * sin, -dx * sin + dy * cos


def _texture(
    rng: np.random.Generator, thing: Thing, rows: np.ndarray, columns: np.ndarray, sun: float
) -> np.ndarray:
    """The texture of an object's kind, added to its flat color, float32 [N] for its N pixels."""
    along, across = _local(thing, rows, columns)
    reach_x, reach_y = max(np.abs(along).max(), 1), max(np.abs(across).max(), 1)
    if thing.kind == "building":
        return np.where(across * np.cos(sun - thing.angle) > 0, 12.0, -12.0)
    if thing.kind == "field":
        return 13 * np.sin(across * 2 * np.pi / rng.uniform(5, 8))
    if thing.kind == "sports court":
        u, v = np.abs(along) / reach_x, np.abs(across) / reach_y
        line = (np.abs(u - 0.86) < 0.045) & (v < 0.9) | (np.abs(v - 0.82) < 0.08) & (u < 0.9) | (u < 0.045)
        return np.where(line, 85.0, 0.0)
    if thing.kind == "storage tank":
        radius = np.hypot(along / reach_x, across / reach_y)
        return np.where(radius > 0.82, -34.0, 14 * (along * np.cos(sun) + across * np.sin(sun)) / reach_x)
    if thing.kind == "vehicle":
        return np.where(np.abs(along / reach_x - 0.4) < 0.16, -70.0, 0.0)
    if thing.kind == "tree":
        light = (
            np.cos(sun + np.pi) * (columns - columns.mean()) + np.sin(sun + np.pi) * (rows - rows.mean())
        ) / reach_x
        return 16 * light + rng.normal(0, 12, len(rows))
    if thing.kind == "road":
        return rng.normal(0, 3, len(rows))
    return rng.normal(0, 7 if thing.kind == "bare land" else 2, len(rows))


def _shadows(scene: Scene, ids: np.ndarray) -> np.ndarray:
    """Pixels that lie in the shadow of a taller object, bool [SIZE, SIZE]."""
    heights = np.array([0.0] + [KINDS[thing.kind].height for thing in scene.objects])
    ground = heights[ids]
    dark = np.zeros((SIZE, SIZE), bool)
    direction = np.array([np.cos(scene.sun), np.sin(scene.sun)])
    for i, thing in enumerate(scene.objects, start=1):
        if heights[i]:
            reach = 0.5 * heights[i] / scene.resolution
            for step in (0.5, 1.0):
                dark |= fill(thing.outline + direction * reach * step) & (ground < heights[i])
    return dark


def render(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Render a scene.

    Returns:
        The image, uint8 [SIZE, SIZE, 3] RGB, and the map of ids, int16 [SIZE, SIZE]: 0 is the ground and i + 1
        the visible pixels of `scene.objects[i]`. The ids are exact: blur, shadow and haze change colors only.
    """
    # Here, so that importing the package stays cheap.
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng([*scene.seed, 1])
    ids = np.zeros((SIZE, SIZE), np.int16)
    for i, thing in enumerate(scene.objects, start=1):
        ids[thing.cover] = i
    canvas: np.ndarray = np.empty((SIZE, SIZE, 3), np.float32)
    canvas[:] = np.array(GROUNDS[scene.ground]) + rng.normal(0, 6, 3)
    canvas += (5 * _waves(rng, 40) + 6 * _waves(rng, 8))[..., None]
    for i, thing in enumerate(scene.objects, start=1):
        rows, columns = np.nonzero(ids == i)
        if len(rows):
            flat = thing.tint or KINDS[thing.kind].colors[thing.color]
            color = np.array(flat) + rng.normal(0, 6, 3)
            canvas[rows, columns] = color + _texture(rng, thing, rows, columns, scene.sun)[:, None]
    canvas[_shadows(scene, ids)] *= 0.62
    canvas *= 1 + 0.05 * _waves(rng, 3)[..., None] + rng.normal(0, 0.05)
    if rng.random() < 0.2:
        haze = np.clip(0.25 * _waves(rng, 4), 0, 0.45)[..., None]
        canvas = canvas * (1 - haze) + 235 * haze
    canvas = gaussian_filter(canvas, (rng.uniform(0.3, 0.8),) * 2 + (0,))
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * rng.uniform(2, 5)
    return np.clip(canvas, 0, 255).astype(np.uint8), ids
