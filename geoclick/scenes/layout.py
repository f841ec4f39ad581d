"""Laying out a scene: objects as polygons at random places, before any pixel is drawn."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from geoclick.scenes.kinds import GROUNDS, KINDS, PAINT_ORDER, RESOLUTIONS

SIZE = 256
"""Height and width of a scene in pixels."""

COUNTS = {
    "road": (0, 1),
    "pond": (0, 1),
    "field": (0, 2),
    "bare land": (0, 1),
    "sports court": (0, 2),
    "building": (0, 4),
    "storage tank": (0, 3),
    "vehicle": (0, 3),
    "tree": (0, 4),
}
"""Fewest and most of each kind in a full scene, in the order in which they are placed: large ones first."""

TRIES = 12
"""Random places that are tried for an object before it is left out."""


@dataclass(frozen=True)
class Thing:
    """One object: its kind, its color word and its outline, float [N, 2] as (x, y) in pixels."""

    kind: str
    color: str
    outline: np.ndarray
    angle: float


@dataclass(frozen=True)
class Scene:
    """The layout of a scene; `objects` are in painting order, so that a later one hides an earlier one.

    Attributes:
        seed: the seed that it was generated from.
        resolution: in metres per pixel.
        ground: a key of GROUNDS.
        sun: direction of the shadows in radians.
    """

    seed: tuple[int, ...]
    resolution: float
    ground: str
    sun: float
    objects: tuple[Thing, ...]


def fill(outline: np.ndarray) -> np.ndarray:
    """The pixels whose center lies in an outline, bool [SIZE, SIZE]."""
    canvas = Image.new("1", (SIZE, SIZE))
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in outline], fill=1)
    return np.asarray(canvas)


def _turn(points: np.ndarray, angle: float, center: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]]) + center


def _box(rng: np.random.Generator, length: float, width: float) -> np.ndarray:
    return np.array([[-length, -width], [length, -width], [length, width], [-length, width]]) / 2


def _corner(rng: np.random.Generator, length: float, width: float) -> np.ndarray:
    """An L: a box with one corner cut out."""
    a, b = length / 2, width / 2
    x, y = rng.uniform(0.0, 0.4) * a, rng.uniform(-0.1, 0.3) * b
    return np.array([[-a, -b], [a, -b], [a, y], [x, y], [x, b], [-a, b]])


def _round(rng: np.random.Generator, length: float, width: float, bumps: float = 0.0) -> np.ndarray:
    """An ellipse, with low waves of relative height `bumps` along its rim."""
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = np.ones_like(t)
    for wave in (2, 3, 5):
        radius += bumps / wave * rng.uniform(-1, 1) * 2 * np.sin(wave * t + rng.uniform(0, 6.3))
    return np.stack([np.cos(t) * length, np.sin(t) * width], 1) * radius[:, None] / 2


def _outline(rng: np.random.Generator, kind: str, resolution: float) -> np.ndarray:
    """The outline of one object around the origin, in pixels."""
    spec = KINDS[kind]
    length, width = rng.uniform(*spec.length) / resolution, rng.uniform(*spec.width) / resolution
    if kind == "building" and rng.random() < 0.4:
        return _corner(rng, length, width)
    if kind in ("tree", "storage tank"):
        return _round(rng, length, length, 0.12 if kind == "tree" else 0.0)
    if kind in ("pond", "bare land"):
        return _round(rng, length, width, 0.28)
    return _box(rng, length, width)


def _road(rng: np.random.Generator, resolution: float) -> tuple[np.ndarray, np.ndarray, float]:
    """A bent band through the scene: its outline, its middle line float [N, 2], its width in pixels."""
    angle = rng.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    center = np.full(2, SIZE / 2) + across * rng.uniform(-0.3, 0.3) * SIZE
    t = np.linspace(-1, 1, 33)[:, None]
    bend = rng.uniform(-0.25, 0.25) * SIZE
    middle = center + along * t * SIZE + across * bend * (t**2 - 0.2)
    width = rng.uniform(*KINDS["road"].width) / resolution
    slope = np.gradient(middle, axis=0)
    normal = np.stack([-slope[:, 1], slope[:, 0]], 1) / np.linalg.norm(slope, axis=1, keepdims=True)
    return np.concatenate([middle + normal * width / 2, (middle - normal * width / 2)[::-1]]), middle, width


def _grown(outline: np.ndarray, by: float) -> np.ndarray:
    center = outline.mean(0)
    reach = np.linalg.norm(outline - center, axis=1, keepdims=True)
    return center + (outline - center) * (1 + by / np.maximum(reach, 1))


def _on_road(rng: np.random.Generator, middle: np.ndarray, width: float) -> tuple[np.ndarray, float] | None:
    """A random place in one of the two lanes: center and heading; None if it lies outside the scene."""
    i = int(rng.integers(1, len(middle) - 1))
    ahead = middle[i + 1] - middle[i - 1]
    heading = float(np.arctan2(ahead[1], ahead[0]))
    lane = np.array([-np.sin(heading), np.cos(heading)]) * width / 4 * rng.choice([-1, 1])
    place = middle[i] + lane
    return (place, heading) if (place > 8).all() and (place < SIZE - 8).all() else None


def _counts(rng: np.random.Generator, difficulty: int | None) -> dict[str, int]:
    """How many objects of each kind; `difficulty` 0 gives one object, 1 two to four, None or 2 a full scene."""
    if difficulty in (None, 2):
        return {kind: int(rng.integers(low, high + 1)) for kind, (low, high) in COUNTS.items()}
    chosen = rng.choice(list(COUNTS), size=1 if difficulty == 0 else int(rng.integers(2, 5)))
    return {kind: min(int((chosen == kind).sum()), COUNTS[kind][1]) for kind in COUNTS}


def generate(seed: int | tuple[int, ...], difficulty: int | None = None) -> Scene:
    """Generate the layout of a scene.

    Args:
        seed: one or several integers; the same ones give the same scene.
        difficulty: 0 for one object, 1 for a few, 2 or None for a full scene.
    """
    seed = (seed,) if isinstance(seed, int) else tuple(seed)
    rng = np.random.default_rng(list(seed))
    resolution = float(rng.choice(RESOLUTIONS))
    taken = np.zeros((SIZE, SIZE), bool)
    things: list[Thing] = []
    middle = None
    main = rng.uniform(0, np.pi)
    for kind, count in _counts(rng, difficulty).items():
        for _ in range(count):
            color = str(rng.choice(list(KINDS[kind].colors)))
            if kind == "road":
                outline, middle, width = _road(rng, resolution)
                things.append(Thing(kind, color, outline, 0.0))
                taken |= fill(_grown(outline, 2))
                continue
            placed = None
            for _ in range(TRIES):
                placed = _place(
                    rng, kind, resolution, taken, main, (middle, width) if middle is not None else None
                )
                if placed:
                    break
            if placed:
                outline, angle, blocked = placed
                taken |= blocked
                things.append(Thing(kind, color, outline, angle))
    things.sort(key=lambda thing: PAINT_ORDER.index(thing.kind))
    return Scene(
        seed, resolution, str(rng.choice(list(GROUNDS))), float(rng.uniform(0, 2 * np.pi)), tuple(things)
    )


def _place(
    rng: np.random.Generator,
    kind: str,
    resolution: float,
    taken: np.ndarray,
    main: float,
    road: tuple[np.ndarray, float] | None,
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """Outline, angle and blocked pixels of one object at a random place, or None if that place is taken.

    Vehicles may stand on the road; a tree may overhang the objects next to it.
    """
    outline = _outline(rng, kind, resolution)
    lanes = road if kind == "vehicle" and road is not None and rng.random() < 0.6 else None
    if lanes is not None:
        place = _on_road(rng, *lanes)
        if place is None:
            return None
        center, angle = place
    else:
        reach = min(np.abs(outline).max(), SIZE * 0.3)
        center = rng.uniform(reach, SIZE - reach, 2)
        angle = main + rng.choice([0, np.pi / 2]) + rng.normal(0, 0.1)
    outline = _turn(outline, angle, center)
    blocked = fill(_grown(outline, 4))
    if lanes is not None:
        return outline, angle, blocked
    core = fill(_grown(outline, -4)) if kind == "tree" else blocked
    return None if (taken & core).any() else (outline, angle, blocked)
