"""Edits of the clicks of an answer. A click has one number, counted through all parts in order, from 0.

Every function returns new parts and leaves the given ones unchanged.
"""

from collections.abc import Sequence
from dataclasses import replace

from geoclick.clicks import Click
from geoclick.codec import MAX_CLICKS, Part
from geoclick.errors import GeoClickError

MAX_PARTS = 16
"""Largest number of parts, as in the synthesis."""

Parts = tuple[Part, ...]
"""The prompts of an answer, whose masks are united; none means that the query has no target."""


def clicks_of(parts: Sequence[Part]) -> list[tuple[int, Click]]:
    """All clicks in order, each with the index of its part."""
    return [(index, click) for index, part in enumerate(parts) for click in part.clicks]


def place(x: float, y: float, size: tuple[int, int]) -> tuple[float, float]:
    """The nearest pixel of an image of `size` (height, width); raises GeoClickError for a place outside it."""
    height, width = size
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        raise GeoClickError(f"({x:g}, {y:g}) is outside the {width}x{height} image; click inside it.")
    return float(min(max(round(x), 0), width - 1)), float(min(max(round(y), 0), height - 1))


def add(parts: Parts, click: Click, part: int) -> Parts:
    """A click added at the end of a part; the index after the last part begins a new one.

    Raises:
        GeoClickError: there is no such part, a new part begins with a negative click, the click exists already, or
            the answer has no room.
    """
    if not 0 <= part <= len(parts):
        raise GeoClickError(f"There is no part {part + 1}; choose one of {len(parts)}, or a new part.")
    if part == len(parts) and not click.positive:
        raise GeoClickError("A part begins with a positive click; add one first.")
    if part >= MAX_PARTS:
        raise GeoClickError(f"An answer has at most {MAX_PARTS} parts; delete one first.")
    if len(clicks_of(parts)) >= MAX_CLICKS:
        raise GeoClickError(f"An answer has at most {MAX_CLICKS} clicks; delete one first.")
    if part == len(parts):
        return (*parts, Part((click,)))
    own = parts[part]
    _refuse_repeat(own, click)
    return _with(parts, part, replace(own, clicks=(*own.clicks, click)))


def move(parts: Parts, number: int, x: float, y: float) -> Parts:
    """The click with a number at another place; raises GeoClickError if there is none, or another one is there."""
    index, position = _locate(parts, number)
    own = parts[index]
    moved = own.clicks[position]._replace(x=x, y=y)
    if moved == own.clicks[position]:
        return parts
    _refuse_repeat(own, moved)
    return _with(parts, index, replace(own, clicks=_exchanged(own.clicks, position, (moved,))))


def flip(parts: Parts, number: int) -> Parts:
    """The click with a number with the other sign; errors as in `move`."""
    index, position = _locate(parts, number)
    own = parts[index]
    flipped = own.clicks[position]._replace(positive=not own.clicks[position].positive)
    _refuse_repeat(own, flipped)
    return _with(parts, index, replace(own, clicks=_exchanged(own.clicks, position, (flipped,))))


def delete(parts: Parts, number: int) -> Parts:
    """The parts without the click with a number; a part without clicks and box is gone."""
    index, position = _locate(parts, number)
    own = parts[index]
    rest = replace(own, clicks=_exchanged(own.clicks, position, ()))
    if not rest.clicks and rest.box is None:
        return parts[:index] + parts[index + 1 :]
    return _with(parts, index, rest)


def without_boxes(parts: Parts) -> Parts:
    """The parts with their clicks only; those without clicks are gone."""
    return tuple(Part(part.clicks) for part in parts if part.clicks)


def check_teachable(parts: Parts) -> None:
    """Raise GeoClickError for parts that a click store cannot hold, or that should not be taught."""
    for number, part in enumerate(parts, start=1):
        if part.box is not None:
            raise GeoClickError(
                f"Part {number} has a box, which a click store cannot hold; press 'No boxes' and add clicks."
            )
        if not any(click.positive for click in part.clicks):
            raise GeoClickError(f"Part {number} has no positive click; add one, or delete its clicks.")


def _locate(parts: Parts, number: int) -> tuple[int, int]:
    """The index of the part of a click, and the click's position in it."""
    rest = number
    for index, part in enumerate(parts):
        if 0 <= rest < len(part.clicks):
            return index, rest
        rest -= len(part.clicks)
    raise GeoClickError(f"There is no click {number + 1}; choose one of {len(clicks_of(parts))}.")


def _refuse_repeat(part: Part, click: Click) -> None:
    if click in part.clicks:
        raise GeoClickError(
            f"The part has a click at ({click.x:g}, {click.y:g}) already; choose another place."
        )


def _with(parts: Parts, index: int, part: Part) -> Parts:
    return (*parts[:index], part, *parts[index + 1 :])


def _exchanged(clicks: tuple[Click, ...], position: int, new: tuple[Click, ...]) -> tuple[Click, ...]:
    return (*clicks[:position], *new, *clicks[position + 1 :])
