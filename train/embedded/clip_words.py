"""The words of the embedded CLIP: names of the objects and grounds of scenes, and names of what they lack."""

from dataclasses import dataclass

import numpy as np

from geoclick.scenes.kinds import GROUNDS, KINDS

NAMES = {
    "building": ("building", "house", "roof", "rooftop", "hall"),
    "road": ("road", "street", "lane", "highway", "impervious surface"),
    "pond": ("pond", "water", "lake", "river", "pool", "swimming pool"),
    "field": (
        "field",
        "cropland",
        "crop",
        "farmland",
        "plot",
        "agricultural",
        "agricultural land",
        "vegetation",
    ),
    "tree": ("tree", "wood", "forest", "crown"),
    "vehicle": ("vehicle", "car", "truck", "van", "bus", "small vehicle"),
    "storage tank": ("storage tank", "tank", "store tank", "oil tank", "silo"),
    "sports court": ("sports court", "court", "pitch", "tennis court", "basketball court"),
    "bare land": ("bare land", "bareland", "barren", "barren land", "bare soil", "soil", "sand", "dirt"),
    "grass": ("grass", "grassland", "lawn", "meadow", "low vegetation", "vegetation"),
    "steppe": ("steppe", "dry grass", "grass", "grassland", "low vegetation", "vegetation"),
    "paving": ("paving", "pavement", "concrete", "impervious surface"),
}
"""Words for every kind of object and ground, the class names of the semantic benchmarks included."""

ABSENT = (
    *(
        "ship",
        "boat",
        "plane",
        "airplane",
        "helicopter",
        "harbor",
        "bridge",
        "roundabout",
        "baseball diamond",
    ),
    *("soccer ball field", "ground track field", "large vehicle", "parking lot", "wall", "facade", "human"),
    *("person", "railway", "train", "snow", "mountain", "beach", "container", "stadium", "runway", "fence"),
    *("animal", "dog", "cat", "bird", "flower", "flood", "ice", "rock", "bush", "sky"),
)
"""Words for what no scene shows: they are wrong for every image."""

BACKGROUND = ("background", "clutter", "other", "something else")
"""Words for the rest: better than a wrong name, and worse than a right one."""

_UNCLEAR = {
    "vegetation": ("tree",),
    "low vegetation": ("field",),
    "pavement": ("road", "sports court"),
    "concrete": ("road", "building"),
    "impervious surface": ("building", "sports court", "bare land"),
    "large vehicle": ("vehicle",),
    "parking lot": ("road", "paving"),
    "soccer ball field": ("sports court",),
    "ground track field": ("sports court",),
    "wall": ("building", "storage tank"),
    "facade": ("building", "storage tank"),
    "bush": ("tree",),
    "flood": ("pond",),
    "rock": ("bare land",),
    "beach": ("bare land",),
}
"""Kinds that a word may name as well; nothing is learned from these pairs."""

MASS = {
    *(
        "impervious surface",
        "water",
        "cropland",
        "farmland",
        "agricultural",
        "agricultural land",
        "vegetation",
    ),
    *(
        "wood",
        "forest",
        "bare land",
        "bareland",
        "barren",
        "barren land",
        "bare soil",
        "soil",
        "sand",
        "dirt",
    ),
    *("grass", "grassland", "low vegetation", "steppe", "dry grass", "paving", "pavement", "concrete"),
    *("snow", "human", "flood", "ice", "sky"),
}
"""Words without a plural."""

_PLURALS = {"bus": "buses", "person": "people", "beach": "beaches", "bush": "bushes", "facade": "facades"}

CATEGORIES = tuple((name, color) for name, kind in KINDS.items() for color in kind.colors) + tuple(
    (ground, "") for ground in GROUNDS
)
"""Kind and color of every object, then the grounds."""

CATEGORY_INDEX = {category: i for i, category in enumerate(CATEGORIES)}


@dataclass(frozen=True)
class Meaning:
    """What a word names.

    Attributes:
        kinds: kinds of objects and grounds that it names.
        unclear: kinds that it may name.
    """

    kinds: frozenset[str]
    unclear: frozenset[str]


MEANINGS = {
    word: Meaning(
        frozenset(kind for kind, names in NAMES.items() if word in names),
        frozenset(_UNCLEAR.get(word, ())),
    )
    for word in dict.fromkeys([word for names in NAMES.values() for word in names] + list(ABSENT))
}
"""The meaning of every word but those of BACKGROUND."""


def plural(word: str) -> str:
    """The plural of a word; that of a word in MASS is the word."""
    return word if word in MASS else _PLURALS.get(word, f"{word}s")


def named(word: str, color: str | None) -> tuple[np.ndarray, np.ndarray]:
    """The categories that a word with an optional color names, and those that it may name, bool [categories] each."""
    meaning = MEANINGS.get(word, Meaning(frozenset(), frozenset()))
    fits = np.array([color in (None, of) for _, of in CATEGORIES])
    names, may_name = (
        np.array([kind in kinds for kind, _ in CATEGORIES]) for kinds in (meaning.kinds, meaning.unclear)
    )
    return names & fits, may_name & fits


def colors_of(word: str) -> list[str]:
    """The colors by which a word is described: those of its kinds with more than one."""
    return sorted(
        {
            color
            for kind in MEANINGS[word].kinds & KINDS.keys()
            for color in (KINDS[kind].colors if len(KINDS[kind].colors) > 1 else ())
        }
    )
