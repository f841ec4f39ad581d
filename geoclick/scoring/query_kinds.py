"""The kind of a query by its English words: what a model must understand to identify the target.

The rules match words only, written for the queries of RRSIS-D, RISBench and RefSegRS, and are approximate:

- position: in the image ("the ship on the lower left", "a dam in the middle", "the leftmost tank");
- relation: to another object ("a court on the right of the red vehicle", "the car along the road", "similar in size
  to"); a direction "of" anything but the image itself counts as relation;
- size: size or extreme ("a tiny vehicle", "the largest tank");
- color: ("a green and brown golf field");
- several: two or more of these, about any object ("a small vehicle on the upper left");
- plain: none of these ("a stadium").

The tasks reasoning, no_target and semantic are kinds of their own. `SEVERAL_PARTS` is no kind of words: samples whose
target has several parts are in it besides their kind.
"""

import re

TASK_KINDS = ("reasoning", "semantic", "no_target")
KINDS = ("plain", "position", "relation", "size", "color", "several", *TASK_KINDS)
"""All kinds, in the order of reports."""
SEVERAL_PARTS = "several parts"

IMAGE = "image|picture|photo|photograph|scene|view|frame|map|figure"
"""Nouns for the image itself: a direction "of" one of these is a position."""
PLACE = (
    "(?:left|right|top|bottom|upper|lower|middle|cent(?:er|re|ral)|corner|edge|"
    "(?:north|south)(?: ?(?:east|west))?|east|west)(?:most|ern)?"
)
NAMED_CENTER = re.compile(
    r"\b(?:shopping|sports?|service|city|town|data|civic|community|business|conference|convention|exhibition|"
    r"distribution|logistics|medical|visitors?) cent(?:er|re)s?\b"
)
"""Buildings called a center: no positions."""
ADVERB = re.compile(
    r"\bright(?= (?:next|near|beside|by|at|above|below|behind|under|over|in front|along|across) )"
)
"""The adverb "right", which is no direction."""

THING = f"(?:(?:the|a|an|this|that|its|two|some) )+(?!(?:far |very |most |extreme )*(?:{IMAGE}|{PLACE})\\b)"
"""The start of a noun phrase that is neither the image nor a place in it."""
PLACE_OF = re.compile(rf"\b{PLACE}(?: (?:{PLACE}|side|part|end|hand|half|area))* (?:of|to|from) (?={THING})")
RELATION = re.compile(
    r"\b(?:near|nearest|nearby|next to|besides?|alongside|between|adjacent|close to|closer|closest|behind|front of|"
    r"above|below|under|underneath|beneath|over|around|surround(?:ed|ing)|inside|within|outside|along|opposite|across|"
    r"among|amid|against|connect(?:ed|ing)|attached|facing|crossing|towards?|away from|than|similar|same|"
    rf"(?:in|on|at|by|from) (?={THING}))\b"
)
POSITION = re.compile(rf"\b{PLACE}\b")
SIZE = re.compile(
    r"\b(?:(?:small|large|bigg?|tin[iy]|huge|giant|enormous|massive|long|short|tall|wide|broad|narrow|slender|thick|"
    r"thinn?)(?:e?r|e?st)?|little|mini|medium|sizes?|sized)\b"
)
COLOR = re.compile(
    r"\b(?:red|orange|yellow|green|blue|purple|violet|pink|brown|black|white|gr[ae]y|silver|golden|beige|tan|cyan|"
    r"turquoise|dark|bright|reddish|yellowish|greenish|bluish|brownish|gr[ae]yish|whitish|colou?r(?:ed|ful)?)\b"
)


def kind(query: str, task: str = "referring") -> str:
    """The kind of a query, one of KINDS.

    Args:
        query: in English; queries in other languages are plain.
        task: of the sample.
    """
    if task in TASK_KINDS:
        return task
    words = " ".join(re.findall("[a-z]+", query.lower()))
    words = ADVERB.sub("", NAMED_CENTER.sub("", words))
    words, directions = PLACE_OF.subn("of ", words)
    kinds = [
        name
        for name, match in (
            ("position", POSITION.search(words)),
            ("relation", directions or RELATION.search(words)),
            ("size", SIZE.search(words)),
            ("color", COLOR.search(words)),
        )
        if match
    ]
    return kinds[0] if len(kinds) == 1 else "several" if kinds else "plain"
