"""Captions of views for the embedded CLIP: true ones, nearly true ones, and which captions hold for which views."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from geoclick.clips.templates import AERIAL, IMAGENET
from geoclick.train.embedded.clip_words import (
    ABSENT,
    BACKGROUND,
    CATEGORIES,
    MASS,
    MEANINGS,
    NAMES,
    colors_of,
    named,
    plural,
)

NUMBERS = ("one", "two", "three", "four")
TEMPLATES = ("{}", *AERIAL, *IMAGENET)
FORMS = (
    "{}",
    "{} from above",
    "an image of {}",
    "a photo of {}",
    "an aerial image of {}",
    "a satellite image of {}",
    "an overhead view of {}",
)
"""Templates of captions with several claims."""

CHANGES = ("color", "kind", "count")
"""What a nearly true caption changes."""

COUNT_SHARES = (0.5, 0.3, 0.13, 0.07)
"""How often a wrong number is one, two, three or four: about as often as a right one."""

TRIES = 6
"""Random changes that are tried for a nearly true caption."""


@dataclass(frozen=True)
class Claim:
    """Something that a caption says: these objects, or this ground, are visible.

    Attributes:
        word: of clip_words.
        color: of all of them; None if it is not said.
        count: exact number; None for at least one.
    """

    word: str
    color: str | None = None
    count: int | None = None


@dataclass(frozen=True)
class Caption:
    """A text and its claims, which all must hold.

    Attributes:
        text: the caption.
        claims: what it says.
        template: what the text was made with.
    """

    text: str
    claims: tuple[Claim, ...]
    template: str


@dataclass(frozen=True)
class Counts:
    """How many objects of each category views show, and 1 for each ground, int [views, categories].

    Attributes:
        fewest: objects that are clearly visible.
        most: those and the ones of which only a small part is visible.
    """

    fewest: np.ndarray
    most: np.ndarray


@lru_cache(maxsize=4096)
def _categories(claim: Claim) -> tuple[np.ndarray, np.ndarray]:
    return named(claim.word, claim.color)


def possible(captions: Sequence[Caption], counts: Counts) -> np.ndarray:
    """Whether a caption may hold for a view, bool [captions, views]: false only if it is certainly wrong."""
    result = np.ones((len(captions), len(counts.fewest)), bool)
    claims = [claim for caption in captions for claim in caption.claims]
    if not claims:
        return result
    owner = np.repeat(np.arange(len(captions)), [len(caption.claims) for caption in captions])
    surely, perhaps = (
        np.stack(rows).astype(np.int64) for rows in zip(*map(_categories, claims), strict=True)
    )
    fewest, most = surely @ counts.fewest.T, (surely + perhaps) @ counts.most.T
    exact = np.array([claim.count or 0 for claim in claims])[:, None]
    holds = np.where(exact > 0, (fewest <= exact) & (exact <= most), most > 0)
    np.logical_and.at(result, owner, holds)
    return result


def phrase(claim: Claim, *, many: bool = False, article: bool = False) -> str:
    """A claim in words, such as "two red buildings"; without a count in the plural if `many`."""
    color = f"{claim.color} " if claim.color else ""
    if claim.count:
        name = claim.word if claim.count == 1 else plural(claim.word)
        return f"{NUMBERS[claim.count - 1]} {color}{name}"
    if many or claim.word in MASS or not article:
        return f"{color}{plural(claim.word) if many else claim.word}"
    words = f"{color}{claim.word}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def write(claims: tuple[Claim, ...], template: str, rng: np.random.Generator) -> Caption:
    """The caption with these claims; those after the first objects that name a ground follow as "on ..."."""
    bare = template in TEMPLATES[1:]
    parts = [
        phrase(claim, many=rng.random() < 0.2, article=not bare and rng.random() < 0.7) for claim in claims
    ]
    grounds = [i for i, claim in enumerate(claims) if i and _is_ground(claim)]
    things = [part for i, part in enumerate(parts) if i not in grounds]
    text = " and ".join(filter(None, (", ".join(things[:-1]), things[-1])))
    text += "".join(f" on {parts[i]}" for i in grounds)
    return Caption(template.format(text), claims, template)


def _is_ground(claim: Claim) -> bool:
    return claim.word in MEANINGS and not MEANINGS[claim.word].kinds - {"grass", "steppe", "paving"}


def describe(fewest: np.ndarray, most: np.ndarray, rng: np.random.Generator) -> Caption:
    """A true caption of a view, from one row of `Counts`."""
    visible = rng.permutation(np.nonzero(fewest)[0])
    objects = [i for i in visible if CATEGORIES[i][1]]
    grounds = [i for i in visible if not CATEGORIES[i][1]]
    chosen = objects[: int(rng.choice([1, 1, 2, 3]))]
    if grounds and (not chosen or rng.random() < 0.3):
        chosen.append(grounds[0])
    if not chosen:
        return Caption(BACKGROUND[0], (), "{}")
    claims = tuple(dict.fromkeys(_claim(int(i), fewest, most, rng) for i in chosen))
    short = len(claims) == 1 and claims[0].count is None and rng.random() < 0.7
    return write(claims, str(rng.choice(TEMPLATES if short else FORMS)), rng)


def _claim(category: int, fewest: np.ndarray, most: np.ndarray, rng: np.random.Generator) -> Claim:
    """A true claim about the objects of a category."""
    kind, color = CATEGORIES[category]
    names = NAMES[kind]
    word = names[0] if rng.random() < 0.4 else str(rng.choice(names))
    claim = Claim(word, color if color in colors_of(word) and rng.random() < 0.6 else None)
    if not color or word in MASS or rng.random() < 0.5:
        return claim
    surely, perhaps = _categories(claim)
    number = int(fewest[surely].sum())
    exact = number == most[surely | perhaps].sum() and number <= len(NUMBERS)
    return replace(claim, count=number) if exact else claim


def nearly_true(
    caption: Caption, counts: Counts, rng: np.random.Generator, change: str | None = None
) -> Caption | None:
    """The caption with another color, kind or count, so that it is certainly wrong.

    Args:
        caption: a true caption of the view.
        counts: those of the view, [1, categories].
        rng: source of randomness.
        change: one of CHANGES; None for a random one.

    Returns:
        The changed caption; None if no change of a few random ones made it wrong.
    """
    for _ in range(TRIES if caption.claims else 0):
        place = int(rng.integers(len(caption.claims)))
        claim = _changed(caption.claims[place], change or str(rng.choice(CHANGES)), rng)
        claims = (*caption.claims[:place], claim, *caption.claims[place + 1 :])
        written = write(claims, caption.template, rng)
        if not possible([written], counts).any():
            return written
    return None


def _changed(claim: Claim, change: str, rng: np.random.Generator) -> Claim:
    if change == "color" and claim.color:
        return replace(claim, color=str(rng.choice([c for c in colors_of(claim.word) if c != claim.color])))
    if change == "count" and claim.count:
        shares = np.where(np.arange(1, 5) == claim.count, 0, COUNT_SHARES)
        return replace(claim, count=1 + int(rng.choice(4, p=shares / shares.sum())))
    if change != "kind":
        return claim
    kind = str(rng.choice(list(NAMES)))
    word = str(rng.choice([name for name in NAMES[kind] if not claim.count or name not in MASS] or ["tree"]))
    color = claim.color if claim.color in colors_of(word) else None
    return replace(claim, word=word, color=color, count=None if word in MASS else claim.count)


def absent(rng: np.random.Generator) -> Caption:
    """A caption of something that no scene shows."""
    return write((Claim(str(rng.choice(ABSENT))),), str(rng.choice(TEMPLATES)), rng)
