"""Direction words of a query, exchanged when its image is mirrored or rotated.

English only. A query is refused (and its image not changed) unless the meaning of each direction word is certain: "the
top building" but not "on top of the building"; "the left car" but not "the car left behind"; "the upper half" but not
"the lower building", which may have few floors; not "above", which may mean a bridge; not "West Street", which is a
name. A wrong refusal costs one augmentation; a wrong exchange would teach the model left for right.
"""

import re
from collections.abc import Callable

Vector = tuple[int, int]
"""Columns and rows: left is (-1, 0), the top (0, -1)."""

LEFT, RIGHT, UP, DOWN = (-1, 0), (1, 0), (0, -1), (0, 1)

PLAIN = {LEFT: "left", RIGHT: "right", UP: "top", DOWN: "bottom"}
RAISED = {LEFT: "left", RIGHT: "right", UP: "upper", DOWN: "lower"}
COMPASS = {LEFT: "west", RIGHT: "east", UP: "north", DOWN: "south"}
MEANING = {
    word: (style, direction) for style in (RAISED, PLAIN, COMPASS) for direction, word in style.items()
}
"""Style and direction of each direction word; its replacement is in the same style."""

_WAY = "|".join(MEANING)
_PHRASE = re.compile(
    rf"\b(?P<one>{_WAY})(?:(?P<gap>[ -]?)(?P<two>{_WAY}))?(?P<end>(?:ern)?(?:[ -]?most)?)\b", re.IGNORECASE
)
"""One word, or two for a corner, with an ending: left, upper-left, northeastern, bottom-most."""

_STEM = re.compile(rf"\b(?:{_WAY})", re.IGNORECASE)

_BEFORE = re.compile(r"(?:^|\b(?:the|at|on|far|very|from|most) )$", re.IGNORECASE)
"""What precedes a single plain word that names a position."""
_PART = re.compile(
    r"[ -](?:side|half|part|edge|border|end|portion|third|quarter|area|region|section|corner|ones?)\b"
)
"""What follows a word that names a part of the image."""
_NO_PLACE = re.compile(
    r"[ -](?:angle|next|away|now|here|there|turn|behind|over|alone|out|view|floor|layer|soil|level|down|of way)"
)
_OF = re.compile(r" of (?!(?:(?:the|this|that) )?(?:image|picture|photo|scene|frame|map|tile|view)\b)")

_NEVER = re.compile(
    r"\b(?:(?:counter-?|anti-?)?clockwise|o'?clock|mirror\w*|flip\w*|rotat\w*|upside|letters?|numbers?|digits?|text"
    r"|words?|reads?|says?|written|logo"
    r"|(?:first|second|third|fourth|fifth|last|\d+(?:st|nd|rd|th)) (?:row|column|line))\b",
    re.IGNORECASE,
)
"""Words that make a query wrong after any change of direction."""
_UPRIGHT = re.compile(
    r"\b(?:above|below|beneath|underneath|under|over|up|down|upwards?|downwards?"
    r"|(?:left|right) (?:bank|lane|wing|engine|shoulder))s?\b",
    re.IGNORECASE,
)
"""Words that may refer to the image, to height or to an object's own right side: only left and right may change."""
_UNTURNED = re.compile(
    r"\b(?:(?:left|right)[ -]hand|(?:left|right) of\b|rows?\b|columns?\b|horizontal|vertical|sideways|diagonal)",
    re.IGNORECASE,
)
"""Words without a counterpart after a quarter turn."""


def redirected(query: str, move: Callable[[Vector], Vector]) -> str | None:
    """The query for a mirrored or rotated image, or None if its meaning is not certain.

    Args:
        query: the user's text.
        move: the new direction of each direction: RIGHT to LEFT in a mirrored image.
    """
    if move(RIGHT) == RIGHT and move(UP) == UP:
        return query
    if not query.isascii() or _NEVER.search(query):
        return None
    if move(UP) != UP and _UPRIGHT.search(query):
        return None
    if move(UP) in (LEFT, RIGHT) and _UNTURNED.search(query):
        return None
    phrases = list(_PHRASE.finditer(query))
    if _STEM.search(_PHRASE.sub("", query)) or not all(map(_is_certain, phrases)):
        return None
    return _PHRASE.sub(lambda phrase: _redirected_phrase(phrase, move), query)


def _is_certain(phrase: re.Match[str]) -> bool:
    """Whether a phrase certainly names a position in the image."""
    one, two, end = phrase["one"].lower(), (phrase["two"] or "").lower(), phrase["end"].lower()
    before, after = phrase.string[: phrase.start()], phrase.string[phrase.end() :]
    style, direction = MEANING[one]
    if phrase[0] != phrase[0].lower() and (style is COMPASS or before or phrase[0] != phrase[0].capitalize()):
        return False
    if "ern" in end and MEANING[two or one][0] is not COMPASS:
        return False
    if two:
        other, other_direction = MEANING[two]
        corner = (direction[0] == 0) != (other_direction[0] == 0)
        return (style is COMPASS) == (other is COMPASS) and (corner or style is COMPASS)
    if style is COMPASS or "most" in end:
        return True
    if _NO_PLACE.match(after) or (direction in (UP, DOWN) and _OF.match(after)):
        return False
    return bool(_PART.match(after) or (style is PLAIN and _BEFORE.search(before)))


def _redirected_phrase(phrase: re.Match[str], move: Callable[[Vector], Vector]) -> str:
    words = [phrase["one"].lower(), *([phrase["two"].lower()] if phrase["two"] else [])]
    styles, directions = zip(*(MEANING[word] for word in words), strict=True)
    turned = [move(direction) for direction in directions]
    # A corner keeps its order of words: upper left stays vertical first.
    vertical, turned_vertical = ([x == 0 for x, _ in vectors] for vectors in (directions, turned))
    if len(turned) == 2 and vertical[0] != vertical[1] and turned_vertical[0] != vertical[0]:
        turned.reverse()
    new = [style[direction] for style, direction in zip(styles, turned, strict=True)]
    text = (phrase["gap"] or "").join(new) + phrase["end"]
    return text.capitalize() if phrase[0][0].isupper() else text


_PLACES = re.compile(
    r"\b(?:cent(?:er|re)s?|central|middle|corners?|edges?|borders?|sides?|half|quarters?|foreground|background"
    r"|(?!forest|rainforest|rest|nest|harvest|crest|test|guest|west)\w+est|most|least|more|less|other|another|each"
    r"|all|every|both|only|single|any|one|two|three|four|five|six|seven|eight|nine|ten|first|second|third|last|\d+"
    r"|next|near\w*|clos\w*|adjacent|beside|between|among|along\w*|around|behind|front|opposite|across|far|further"
    r"|farther|away|surround\w*|inside|within|outside|with|without|by|from|to|toward\w*|facing|that|which|whose|where"
    r"|larger?|small(?:er)?|big(?:ger)?|tiny|huge|long(?:er)?|short(?:er)?|wider?|narrow\w*|tall(?:er)?|image|picture"
    r"|scene|whole|entire)\b",
    re.IGNORECASE,
)


def holds_in_a_part(query: str) -> bool:
    """Whether a query means the same when only a part of the image is shown, enlarged.

    It does if it names only the kind of an object. A crop changes what is leftmost, largest or in the middle, where the
    edges are, how many objects there are and how large they look, and it may remove an object that the query relates
    to. So the query must not hold a superlative, a place, a relation, a number, a size or a subordinate clause, nor
    characters outside ASCII.
    """
    return query.isascii() and not any(p.search(query) for p in (_STEM, _UPRIGHT, _NEVER, _UNTURNED, _PLACES))
