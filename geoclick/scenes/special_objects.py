"""Objects of scenes of version 2 that are hard to segment, and groups of one kind."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from geoclick.scenes.kinds import GROUNDS, KINDS, RGB
from geoclick.scenes.layout import TRIES, Thing
from geoclick.scenes.outlines import SIZE, bent_band, box, crescent, fill, grown, rounded, turn, u_shape

FEATURES = ("thin", "ringed", "concave", "hidden", "touching", "faint")
"""What makes an object hard: a few pixels wide; with a hole; bent around other ground; partly under trees; wall to wall
with others of its kind; in nearly the color of the ground."""

SHAPES = ("narrow", "ring-shaped", "U-shaped", "crescent-shaped")
"""Adjectives of unusual shapes."""

GROUP_KINDS = ("storage tank", "vehicle", "building", "tree", "sports court")
GROUP_SIDE = 150
"""Largest extent of a group in pixels."""
GROUP_LENGTHS = {
    "storage tank": (8, 14),
    "vehicle": (5, 9),
    "building": (9, 15),
    "tree": (5, 9),
    "sports court": (14, 22),
}
"""(smallest, largest) length in metres of the members of a group."""
ASPECTS = {"storage tank": 1.0, "vehicle": 0.38, "building": 0.7, "tree": 1.0, "sports court": 0.55}
"""Width over length of the members of a group."""

VISIBLE = (0.35, 0.85)
"""Smallest and largest visible share of a hidden object."""


class Plot:
    """A scene of version 2 while it is laid out.

    Attributes:
        rng: source of randomness.
        resolution: in metres per pixel.
        ground: a key of GROUNDS.
        main: direction of streets and walls in radians.
        taken: pixels on which nothing more is placed, bool [SIZE, SIZE].
        things: the objects so far.
    """

    def __init__(self, rng: np.random.Generator, resolution: float, ground: str, main: float) -> None:
        self.rng, self.resolution, self.ground, self.main = rng, resolution, ground, main
        self.taken = np.zeros((SIZE, SIZE), bool)
        self.things: list[Thing] = []

    def metres(self, low: float, high: float) -> float:
        """A random length between two lengths in metres, in pixels."""
        return float(self.rng.uniform(low, high)) / self.resolution

    def color(self, kind: str) -> str:
        """A random color word of a kind."""
        return str(self.rng.choice(list(KINDS[kind].colors)))

    def place(self, outlines: list[np.ndarray]) -> tuple[list[np.ndarray], float] | None:
        """Outlines around a common origin, turned and moved to a free place, and the angle; None without a place."""
        extent = max(np.abs(outline).max() for outline in outlines)
        reach = min(extent, SIZE * 0.35)
        for _ in range(TRIES):
            center = self.rng.uniform(reach, SIZE - reach, 2)
            angle = self.main + self.rng.choice([0, np.pi / 2]) + self.rng.normal(0, 0.1)
            placed = [turn(outline, angle, center) for outline in outlines]
            blocked = np.any([fill(grown(outline, 4)) for outline in placed], axis=0)
            if not (self.taken & blocked).any():
                self.taken |= blocked
                return placed, angle
        return None

    def add(self, thing: Thing, outline: np.ndarray, hole: np.ndarray | None = None) -> bool:
        """Add an object with its outline and hole around the origin; False if there is no place."""
        placed = self.place([outline])
        if placed is None:
            return False
        (moved,), angle = placed
        if hole is not None:
            center = moved.mean(0) - turn(outline, angle, np.zeros(2)).mean(0)
            hole = turn(hole, angle, center)
        self.things.append(replace(thing, outline=moved, angle=angle, hole=hole))
        return True


def blank(plot: Plot, kind: str, feature: str, shape: str = "") -> Thing:
    """An object without a place."""
    return Thing(kind, plot.color(kind), np.zeros((0, 2)), 0.0, shape=shape, feature=feature)


def thin(plot: Plot) -> None:
    """A path, a long narrow building or a strip of field."""
    kind = str(plot.rng.choice(["road", "building", "field"]))
    thing = blank(plot, kind, "thin", "narrow")
    if kind == "road":
        outline, _, _ = bent_band(plot.rng, plot.resolution, (1.2, 2.4))
        plot.things.append(replace(thing, outline=outline))
        plot.taken |= fill(grown(outline, 2))
    elif kind == "building":
        plot.add(thing, box(plot.metres(26, 50), plot.metres(2, 3.2)))
    else:
        plot.add(thing, box(plot.metres(36, 64), plot.metres(3, 5)))


def ringed(plot: Plot) -> None:
    """A building around a courtyard, or a pond with an island."""
    share = plot.rng.uniform(0.45, 0.65)
    if plot.rng.random() < 0.5:
        outline = box(plot.metres(22, 34), plot.metres(20, 30))
        plot.add(blank(plot, "building", "ringed", "ring-shaped"), outline, outline * share)
    else:
        outline = rounded(plot.rng, plot.metres(26, 44), plot.metres(24, 36), 0.15)
        plot.add(blank(plot, "pond", "ringed", "ring-shaped"), outline, outline * share)


def concave(plot: Plot) -> None:
    """A building in the shape of a U, or a pond in that of a crescent."""
    if plot.rng.random() < 0.5:
        outline = u_shape(plot.rng, plot.metres(22, 34), plot.metres(18, 28))
        plot.add(blank(plot, "building", "concave", "U-shaped"), outline)
    else:
        outline = crescent(plot.rng, plot.metres(30, 44), plot.metres(22, 34))
        plot.add(blank(plot, "pond", "concave", "crescent-shaped"), outline)


def hidden(plot: Plot) -> None:
    """An object under the crowns of some trees."""
    kind = str(plot.rng.choice(["building", "sports court", "storage tank", "vehicle"]))
    spec = KINDS[kind]
    length, width = plot.metres(*spec.length), plot.metres(*spec.width)
    outline = rounded(plot.rng, length, length) if kind == "storage tank" else box(length, width)
    if not plot.add(blank(plot, kind, "hidden"), outline):
        return
    thing = plot.things[-1]
    whole, visible, trees = thing.cover, thing.cover, list[Thing]()
    for _ in range(int(plot.rng.integers(1, 4))):
        diameter = plot.metres(5, 9) * min(1.0, length * plot.resolution / 12)
        crown = rounded(plot.rng, diameter, diameter, 0.12)
        corner = thing.outline[int(plot.rng.integers(len(thing.outline)))]
        center = thing.outline.mean(0) + (corner - thing.outline.mean(0)) * plot.rng.uniform(0.2, 0.9)
        tree = replace(blank(plot, "tree", ""), outline=turn(crown, plot.rng.uniform(0, 6.3), center))
        visible, trees = visible & ~tree.cover, [*trees, tree]
    if VISIBLE[0] * whole.sum() <= visible.sum() <= VISIBLE[1] * whole.sum():
        plot.things += trees
        for tree in trees:
            plot.taken |= fill(grown(tree.outline, 2))
    else:
        plot.things[-1] = replace(thing, feature="")


def touching(plot: Plot) -> None:
    """A row of houses wall to wall, or of courts side by side."""
    kind = str(plot.rng.choice(["building", "sports court"]))
    count, depth = int(plot.rng.integers(2, 5)), plot.metres(9, 13)
    sides = [plot.metres(7, 12) for _ in range(count)]
    edges = np.cumsum([0.0, *sides]) - sum(sides) / 2
    boxes = [
        box(side, depth) + np.array([edge + side / 2, 0]) for side, edge in zip(sides, edges, strict=False)
    ]
    placed = plot.place(boxes)
    for outline in placed[0] if placed else ():
        plot.things.append(
            replace(blank(plot, kind, "touching"), outline=outline, angle=placed[1] if placed else 0.0)
        )


def faint(plot: Plot) -> None:
    """An object in nearly the color of the ground."""
    kind = str(plot.rng.choice(["building", "field", "bare land", "sports court"]))
    red, green, blue = (
        int(np.clip(level + plot.rng.choice([-1, 1]) * plot.rng.uniform(7, 15), 0, 255))
        for level in GROUNDS[plot.ground]
    )
    tint: RGB = (red, green, blue)
    spec = KINDS[kind]
    outline = box(plot.metres(*spec.length), plot.metres(*spec.width))
    plot.add(replace(blank(plot, kind, "faint"), color="", tint=tint), outline)


BUILDERS: dict[str, Callable[[Plot], None]] = {
    "thin": thin,
    "ringed": ringed,
    "concave": concave,
    "hidden": hidden,
    "touching": touching,
    "faint": faint,
}


def group(plot: Plot) -> None:
    """Three to eight objects of a kind in rows, of one color or of several."""
    kind = str(plot.rng.choice(GROUP_KINDS))
    columns, rows = int(plot.rng.integers(2, 5)), int(plot.rng.integers(1, 3))
    length = plot.metres(*GROUP_LENGTHS[kind])
    width = length * ASPECTS[kind]
    across, along = width * plot.rng.uniform(1.35, 1.9), length * plot.rng.uniform(1.25, 1.7)
    shrink = min(1.0, GROUP_SIDE / (columns * across), GROUP_SIDE / (rows * along))
    color = plot.color(kind) if plot.rng.random() < 0.6 else None
    centers = [
        np.array([(column - (columns - 1) / 2) * across, (row - (rows - 1) / 2) * along])
        + plot.rng.normal(0, 0.04, 2) * width
        for row in range(rows)
        for column in range(columns)
        if rows * columns <= 3 or plot.rng.random() < 0.88
    ]
    outlines = [_member(plot, kind, length, width) + center for center in centers]
    placed = plot.place([outline * shrink for outline in outlines])
    if placed is None:
        return
    for outline in placed[0]:
        thing = blank(plot, kind, "")
        plot.things.append(
            replace(thing, color=color or thing.color, outline=outline, angle=placed[1] + np.pi / 2)
        )


def _member(plot: Plot, kind: str, length: float, width: float) -> np.ndarray:
    """The outline of a member of a group around the origin; its long side is along y."""
    if kind in ("tree", "storage tank"):
        return rounded(plot.rng, length, length, 0.12 if kind == "tree" else 0.0)
    return box(width, length)
