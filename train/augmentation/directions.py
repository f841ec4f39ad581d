"""Which way a query points: direction words exchanged when its picture is mirrored or turned.

English only. A query is refused (and its picture left as it is) unless every direction word in it is one whose meaning
is beyond doubt: "the top building" but not "on top of the building", "the left car" but not "the car left behind",
"the upper half" but not "the lower building", which may be one of few storeys, nor "above", which may be a bridge, nor
"West Street", which is a name. Too careful costs an augmentation; careless would teach left for right.
"""

import re
from collections.abc import Callable

Vector = tuple[int, int]
"""Columns and rows: left is (-1, 0), the top (0, -1)."""

LEFT, RIGHT, UP, DOWN = (-1, 0), (1, 0), (0, -1), (0, 1)

PLAIN = {LEFT: "left", RIGHT: "right", UP: "top", DOWN: "bottom"}
RAISED = {LEFT: "left", RIGHT: "right", UP: "upper", DOWN: "lower"}
COMPASS = {LEFT: "west", RIGHT: "east", UP: "north", DOWN: "south"}
MEANING = {word: (style, way) for style in (RAISED, PLAIN, COMPASS) for way, word in style.items()}
"""Of every direction word, the style that it is in, in which its replacement will be, and its way."""

_WAY = "|".join(MEANING)
_PHRASE = re.compile(
    rf"\b(?P<one>{_WAY})(?:(?P<gap>[ -]?)(?P<two>{_WAY}))?(?P<end>(?:ern)?(?:[ -]?most)?)\b", re.IGNORECASE
)
"""One word, or two that make a corner, with an ending: left, upper-left, northeastern, bottom-most."""

_STEM = re.compile(rf"\b(?:{_WAY})", re.IGNORECASE)

_BEFORE = re.compile(r"(?:^|\b(?:the|at|on|far|very|from|most) )$", re.IGNORECASE)
"""What stands before a single plain word that says where something is."""
_PART = re.compile(
    r"[ -](?:side|half|part|edge|border|end|portion|third|quarter|area|region|section|corner|ones?)\b"
)
"""What follows a word that says which part is meant."""
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
"""Words that no exchange of directions would mend."""
_UPRIGHT = re.compile(
    r"\b(?:above|below|beneath|underneath|under|over|up|down|upwards?|downwards?"
    r"|(?:left|right) (?:bank|lane|wing|engine|shoulder))s?\b",
    re.IGNORECASE,
)
"""Words that may speak of the picture or of height, or of a thing's own right: only left and right may change."""
_UNTURNED = re.compile(
    r"\b(?:(?:left|right)[ -]hand|(?:left|right) of\b|rows?\b|columns?\b|horizontal|vertical|sideways|diagonal)",
    re.IGNORECASE,
)
"""Words that have no counterpart after a quarter turn."""


def moved(query: str, move: Callable[[Vector], Vector]) -> str | None:
    """The query about a picture that was mirrored or turned, or None where that is not beyond doubt.

    Args:
        query: the user's text.
        move: where each direction went; RIGHT to LEFT in a mirror image.
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
    if _STEM.search(_PHRASE.sub("", query)) or not all(map(_is_plain, phrases)):
        return None
    return _PHRASE.sub(lambda phrase: _moved_phrase(phrase, move), query)


def _is_plain(phrase: re.Match) -> bool:
    """Whether a phrase says beyond doubt where something lies in the picture."""
    one, two, end = phrase["one"].lower(), (phrase["two"] or "").lower(), phrase["end"].lower()
    before, after = phrase.string[: phrase.start()], phrase.string[phrase.end() :]
    style, way = MEANING[one]
    if phrase[0] != phrase[0].lower() and (style is COMPASS or before or phrase[0] != phrase[0].capitalize()):
        return False
    if "ern" in end and MEANING[two or one][0] is not COMPASS:
        return False
    if two:
        other, way_two = MEANING[two]
        corner = (way[0] == 0) != (way_two[0] == 0)
        return (style is COMPASS) == (other is COMPASS) and (corner or style is COMPASS)
    if style is COMPASS or "most" in end:
        return True
    if _NO_PLACE.match(after) or (way in (UP, DOWN) and _OF.match(after)):
        return False
    return bool(_PART.match(after) or (style is PLAIN and _BEFORE.search(before)))


def _moved_phrase(phrase: re.Match, move: Callable[[Vector], Vector]) -> str:
    words = [phrase["one"].lower(), *([phrase["two"].lower()] if phrase["two"] else [])]
    styles, ways = zip(*(MEANING[word] for word in words), strict=True)
    found = [move(way) for way in ways]
    # A corner is named in its own order, whatever turned into what: upper left stays vertical first.
    if len(found) == 2 and (ways[0][0] == 0) != (ways[1][0] == 0) and (found[0][0] == 0) != (ways[0][0] == 0):
        found.reverse()
    new = [style[way] for style, way in zip(styles, found, strict=True)]
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
    """Whether a query asks for the same thing when only a part of the picture is shown, enlarged.

    It does when it names a thing by what it is. A crop changes what is leftmost, largest or in the middle, where the
    edges are, how many there are and how large things look, and may cut away what another thing is next to: a query
    with a superlative, a place, a relation, a number, a size or a subordinate clause does not hold, nor one that may
    be in another language.
    """
    return query.isascii() and not any(p.search(query) for p in (_STEM, _UPRIGHT, _NEVER, _UNTURNED, _PLACES))
