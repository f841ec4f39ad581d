"""Clicks that an answer repeats: a model may loop, but no stored sequence repeats a click."""

from dataclasses import replace

from geoclick.clicks import Box, Click
from geoclick.codec import Answer, Part

REPEATED = "repeated"
"""The reason for dropping a click that repeats an earlier one, or a part."""


def without_repeats(answer: Answer) -> Answer:
    """An answer whose repeated clicks and parts are dropped; no stored sequence repeats any, but a model may loop.

    A click is repeated if it is in the same part before. A part is repeated if it adds no positive click and no box to
    the parts before it. Different parts may share negative clicks, since each is a prompt of its own.
    """
    parts, seen = list[Part](), set[Click | Box]()
    for prompt in answer.prompts:
        part = replace(prompt, clicks=tuple(dict.fromkeys(prompt.clicks)))
        wanted = {click for click in part.clicks if click.positive} | ({part.box} if part.box else set())
        if not (part in parts or (wanted and wanted <= seen)):
            parts.append(part)
            seen |= wanted
    clicks = tuple(click for part in parts for click in part.clicks)
    boxes, boxes_left = (sum(part.box is not None for part in own) for own in (answer.prompts, parts))
    count = len(answer.clicks) - len(clicks) + boxes - boxes_left
    if not count:
        return answer
    dropped = answer.dropped + (REPEATED,) * count
    is_one = len(parts) == 1 and parts[0].box is None
    return replace(
        answer, clicks=clicks, status="repaired", dropped=dropped, objects=() if is_one else tuple(parts)
    )
