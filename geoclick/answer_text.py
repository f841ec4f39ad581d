"""Points and boxes in the text of an answer, in the coordinates of the text; codec.py converts them to pixels."""

import json
import math
import re
from collections.abc import Iterator
from typing import NamedTuple, TypeGuard

from geoclick.yaml_file import Yaml

NOT_A_POINT = "not a point"
NEGATIVE_BOX = "negative box"
TRUNCATED = "truncated"

NO_TARGET = {"json": "[]", "compact": "none"}
"""The answers that there is no target, by their format."""

_NUMBER = r"([-+]?[0-9]{1,20}+(?:\.[0-9]*+)?)"
# Every repetition is possessive or starts at a literal, so that scanning takes linear time on any text.
_OBJECT = re.compile(r"\{([^{}]*+)(\}?)")
_POINT = re.compile(
    rf"point(?:_2d)?[\"']?\s*+:\s*+[\[(]\s*+{_NUMBER}\s*+,\s*+{_NUMBER}\s*+[\])]", re.IGNORECASE
)
_BOX = re.compile(
    r"bbox(?:_2d)?[\"']?\s*+:\s*+[\[(]\s*+" + r"\s*+,\s*+".join([_NUMBER] * 4) + r"\s*+[\])]", re.IGNORECASE
)
_PART = re.compile(r"part[\"']?\s*+:\s*+([0-9]{1,9}+)", re.IGNORECASE)
_LABEL = re.compile(r"label[\"']?\s*+:\s*+[\"']([^\"']*+)", re.IGNORECASE)
_BRACKET = re.compile(r"(;)|(?:([-+])\s{0,8})?\(([^()]*+)(\)?)")
_PAIR = re.compile(rf"\s*+{_NUMBER}\s*+,\s*+{_NUMBER}\s*+")
_COMPACT = re.compile(r"[-+]\([0-9]++,[0-9]++\)(?:;? [-+]\([0-9]++,[0-9]++\))*+")
_EMPTY_LIST = re.compile(r"\[\s*+\]")


class Corners(NamedTuple):
    """The edges of a box in the frame of the text; NaN where the box is invalid."""

    left: float
    top: float
    right: float
    bottom: float


class PartNumber(NamedTuple):
    """The number of the part that the next points belong to."""

    number: int


INVALID_BOX = Corners(*[math.nan] * 4)

Item = tuple[float, float, bool] | Corners | PartNumber | str
"""A point: x, y in the frame of the text and the sign; a box; a part; or the reason why an item is invalid."""


def read_json(text: str) -> tuple[bool, bool, list[Item]]:
    """Whether the text is valid, whether it is a no-target answer, and its points and boxes."""
    if text.startswith("```"):
        text = text.removeprefix("```").removeprefix("json").removesuffix("```").strip()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, list):
        return True, not content, [found for item in content for found in _items_of(item)]
    items = list(_scan_objects(text))
    return False, not items and _EMPTY_LIST.search(text) is not None, items


def _items_of(item: Yaml) -> Iterator[Item]:
    """The box of one item of a valid JSON list and then its points."""
    if not isinstance(item, dict):
        yield NOT_A_POINT
        return
    label = item.get("label")
    positive = _is_positive(label if isinstance(label, str) else "")
    point, box = item.get("point_2d", item.get("point")), item.get("bbox_2d", item.get("bbox"))
    if box is None:
        part = item.get("part")
        if isinstance(part, int) and not isinstance(part, bool):
            yield PartNumber(part)
        yield (point[0], point[1], positive) if _are_numbers(point, 2) else NOT_A_POINT
        return
    if not positive:
        yield NEGATIVE_BOX
        return
    yield Corners(*box) if _are_numbers(box, 4) else INVALID_BOX
    if point is None:
        return
    for one in point if isinstance(point, list) and point and isinstance(point[0], list) else [point]:
        yield (one[0], one[1], positive) if _are_numbers(one, 2) else NOT_A_POINT


def _are_numbers(values: Yaml, count: int) -> TypeGuard[list[float]]:
    """Whether a value of JSON is a list of `count` numbers."""
    if not (isinstance(values, list) and len(values) == count):
        return False
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _scan_objects(text: str) -> Iterator[Item]:
    """The points and boxes in the innermost braces of a broken text."""
    for match in _OBJECT.finditer(text):
        inside, closed = match.groups()
        box, point, label, part = (pattern.search(inside) for pattern in (_BOX, _POINT, _LABEL, _PART))
        positive = _is_positive(label[1] if label else "")
        if not closed and match.end() == len(text):
            # The label may be cut off, and with it the sign.
            yield TRUNCATED
        elif box and not positive:
            yield NEGATIVE_BOX
        elif box or point:
            if box:
                yield Corners(*map(float, box.groups()))
            elif part:
                yield PartNumber(int(part[1]))
            if point:
                yield float(point[1]), float(point[2]), positive
        elif closed:
            yield NOT_A_POINT


def read_compact(text: str) -> tuple[bool, bool, list[Item]]:
    """As `read_json`, for the compact format."""
    points: list[Item] = []
    for match in _BRACKET.finditer(text):
        separator, sign, inside, closed = match.groups()
        pair = _PAIR.fullmatch(inside or "")
        if separator:
            points.append(PartNumber(match.start()))
        elif not closed and match.end() == len(text):
            points.append(TRUNCATED)
        elif pair:
            points.append((float(pair[1]), float(pair[2]), sign != "-"))
        elif sign or closed:
            points.append(NOT_A_POINT)
    return _COMPACT.fullmatch(text) is not None, text.lower().rstrip(".") == NO_TARGET["compact"], points


def _is_positive(label: str) -> bool:
    return label.strip().lower() != "negative"


READERS = {"json": read_json, "compact": read_compact}
"""The readers by the format of the answers."""
