"""Laying out a scene: objects as polygons at random places, before any pixel is drawn."""

from dataclasses import dataclass

import numpy as np

from geoclick.scenes.kinds import GROUNDS, KINDS, PAINT_ORDER, RESOLUTIONS, RGB
from geoclick.scenes.outlines import SIZE, bent_band, fill, grown, outline_of, turn

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
    """One object.

    Attributes:
        kind: a key of KINDS.
        color: its color word; empty if no query may name its color.
        outline: float [N, 2] as (x, y) in pixels.
        angle: of its long side, in radians.
        hole: outline of the hole in it, if any.
        shape: an adjective of SHAPES in special_objects.py; empty for the usual shape of the kind.
        feature: what makes it hard to segment, of FEATURES in special_objects.py; empty for nothing.
        tint: its flat color; None for that of the color word.
    """

    kind: str
    color: str
    outline: np.ndarray
    angle: float
    hole: np.ndarray | None = None
    shape: str = ""
    feature: str = ""
    tint: RGB | None = None

    @property
    def cover(self) -> np.ndarray:
        """Its pixels where nothing hides it, bool [SIZE, SIZE]."""
        covered = fill(self.outline)
        return covered if self.hole is None else covered & ~fill(self.hole)


@dataclass(frozen=True)
class Scene:
    """The layout of a scene; `objects` are in painting order, so that a later one hides an earlier one.

    Attributes:
        seed: the seed that it was generated from.
        resolution: in metres per pixel.
        ground: a key of GROUNDS.
        sun: direction of the shadows in radians.
        version: 1, or 2 for scenes with groups and hard objects, see varied_layout.py.
    """

    seed: tuple[int, ...]
    resolution: float
    ground: str
    sun: float
    objects: tuple[Thing, ...]
    version: int = 1


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
                outline, middle, width = bent_band(rng, resolution)
                things.append(Thing(kind, color, outline, 0.0))
                taken |= fill(grown(outline, 2))
                continue
            placed = None
            for _ in range(TRIES):
                placed = place(
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


def place(
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
    outline = outline_of(rng, kind, resolution)
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
    outline = turn(outline, angle, center)
    blocked = fill(grown(outline, 4))
    if lanes is not None:
        return outline, angle, blocked
    core = fill(grown(outline, -4)) if kind == "tree" else blocked
    return None if (taken & core).any() else (outline, angle, blocked)
