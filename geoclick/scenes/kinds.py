"""The kinds of objects in scenes: names, colors, sizes and purposes, in one table."""

from dataclasses import dataclass

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    Attributes:
        name: as referring queries name it.
        words: words that name it; a reasoning query contains none of them.
        colors: RGB by color word; a kind with a single color is never described by its color.
        length, width: (smallest, largest) in metres.
        height: in metres, for its shadow; 0 for flat objects.
        purposes: phrases that describe its use, for reasoning queries.
    """

    name: str
    words: tuple[str, ...]
    colors: dict[str, RGB]
    length: tuple[float, float]
    width: tuple[float, float]
    height: float
    purposes: tuple[str, ...]


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "building",
            ("building", "house", "roof", "hall"),
            {"red": (172, 72, 58), "grey": (140, 140, 144), "white": (226, 224, 218), "brown": (120, 88, 66)},
            (11, 26),
            (9, 16),
            7,
            (
                "the place where people live or work indoors",
                "something that keeps its occupants dry when it rains",
                "where a family could sleep tonight",
                "the structure with rooms inside",
            ),
        ),
        Kind(
            "road",
            ("road", "street", "lane", "highway"),
            {"grey": (104, 104, 108)},
            (60, 200),
            (6, 9),
            0,
            (
                "the way that drivers follow across the area",
                "what connects this place with the next town",
                "the surface made for traffic",
                "where a speed limit would apply",
            ),
        ),
        Kind(
            "pond",
            ("pond", "water", "lake", "river", "pool"),
            {"blue": (44, 84, 138)},
            (18, 42),
            (14, 30),
            0,
            (
                "where a duck could swim",
                "the place to launch a small boat",
                "what a fire crew could pump from",
                "the spot where an angler would wait",
            ),
        ),
        Kind(
            "field",
            ("field", "crop", "farmland", "plot"),
            {"green": (104, 150, 62), "yellow": (206, 186, 92), "brown": (138, 104, 72)},
            (26, 50),
            (20, 36),
            0,
            (
                "the area that a farmer would harvest",
                "where food is sown in rows",
                "the land that a tractor ploughs",
                "what drought would ruin for a grower",
            ),
        ),
        Kind(
            "tree",
            ("tree", "wood", "forest", "crown"),
            {"green": (40, 84, 40)},
            (6, 11),
            (6, 11),
            6,
            (
                "what offers shade to a walker on a hot day",
                "where a bird would build its nest",
                "the living thing that a gardener prunes",
                "what drops its leaves in autumn",
            ),
        ),
        Kind(
            "vehicle",
            ("vehicle", "car", "truck", "van", "bus"),
            {"red": (196, 40, 38), "white": (238, 238, 238), "blue": (40, 76, 178), "yellow": (230, 196, 40)},
            (5, 10),
            (2.4, 3.2),
            2,
            (
                "what someone could drive away in",
                "the thing that runs on fuel and four wheels or more",
                "what carries passengers or goods from door to door",
                "the object that a parking warden would check",
            ),
        ),
        Kind(
            "storage tank",
            ("tank", "storage", "silo"),
            {"white": (232, 232, 228), "grey": (160, 164, 168), "brown": (150, 100, 74)},
            (10, 20),
            (10, 20),
            6,
            (
                "where a refinery keeps its oil",
                "the round container for bulk liquids",
                "what would leak gallons if it were punctured",
                "the drum that fuel is pumped into and kept",
            ),
        ),
        Kind(
            "sports court",
            ("court", "sports", "pitch", "tennis", "basketball"),
            {"blue": (58, 106, 160), "orange": (198, 106, 58), "green": (52, 122, 88)},
            (22, 32),
            (11, 17),
            0,
            (
                "where two teams could play a match",
                "the place for exercise with a ball and a net",
                "what a coach would book for training",
                "where players score points inside painted lines",
            ),
        ),
        Kind(
            "bare land",
            ("bare", "soil", "sand", "dirt"),
            {"tan": (200, 172, 132)},
            (20, 38),
            (16, 30),
            0,
            (
                "the empty ground that is ready for new construction",
                "where nothing grows and dust would rise in the wind",
                "the spot that an excavator has cleared",
                "the lot that lies unused and without vegetation",
            ),
        ),
    )
}

PAINT_ORDER = (
    "bare land",
    "field",
    "pond",
    "road",
    "sports court",
    "vehicle",
    "storage tank",
    "building",
    "tree",
)
"""From the ground up: a later kind hides an earlier one where they overlap."""

GROUNDS: dict[str, RGB] = {"grass": (126, 140, 92), "steppe": (166, 156, 116), "paving": (176, 172, 164)}
"""The surface between the objects."""

RESOLUTIONS = (0.3, 0.4, 0.5)
"""Ground resolutions in metres per pixel."""
