"""Laying out a scene of version 2: groups of a kind, objects that are hard to segment, and single objects."""

import numpy as np

from geoclick.scenes.kinds import GROUNDS, PAINT_ORDER, RESOLUTIONS
from geoclick.scenes.layout import TRIES, Scene, Thing, place
from geoclick.scenes.outlines import bent_band, fill, grown
from geoclick.scenes.special_objects import BUILDERS, FEATURES, Plot, group

SINGLES = {
    "pond": (0, 1),
    "field": (0, 1),
    "bare land": (0, 1),
    "sports court": (0, 1),
    "building": (0, 2),
    "storage tank": (0, 2),
    "vehicle": (0, 3),
    "tree": (0, 3),
}
"""Fewest and most of each kind next to groups and hard objects, in the order in which they are placed."""


def generate_varied(seed: tuple[int, ...]) -> Scene:
    """Generate the layout of a scene of version 2; the same seed gives the same scene."""
    rng = np.random.default_rng([*seed, 20])
    plot = Plot(
        rng, float(rng.choice(RESOLUTIONS)), str(rng.choice(list(GROUNDS))), float(rng.uniform(0, np.pi))
    )
    lanes = None
    if rng.random() < 0.6:
        outline, middle, width = bent_band(rng, plot.resolution)
        plot.things.append(Thing("road", plot.color("road"), outline, 0.0))
        plot.taken |= fill(grown(outline, 2))
        lanes = middle, width
    for feature in sorted(rng.choice(FEATURES, 2, replace=False), key=FEATURES.index):
        BUILDERS[feature](plot)
    for _ in range(int(rng.integers(1, 3))):
        group(plot)
    for kind, (low, high) in SINGLES.items():
        for _ in range(int(rng.integers(low, high + 1))):
            _add_single(plot, kind, lanes)
    things = sorted(plot.things, key=lambda thing: PAINT_ORDER.index(thing.kind))
    return Scene(
        seed, plot.resolution, plot.ground, float(rng.uniform(0, 2 * np.pi)), tuple(things), version=2
    )


def _add_single(plot: Plot, kind: str, lanes: tuple[np.ndarray, float] | None) -> None:
    """Add one object of a kind, if there is a place."""
    color = plot.color(kind)
    for _ in range(TRIES):
        placed = place(plot.rng, kind, plot.resolution, plot.taken, plot.main, lanes)
        if placed:
            outline, angle, blocked = placed
            plot.taken |= blocked
            plot.things.append(Thing(kind, color, outline, angle))
            return
