"""Conversion between clicks and text; each VLM family has its own coordinate frame, which only this module knows.

An integer coordinate of a click is the center of a pixel: pixel x of a width W covers [x - 0.5, x + 0.5]. In text:

- `qwen2_vl`, `qwen3_vl`: integers 0 to 1000 over the width or height, edge to edge: (x + 0.5) / W * 1000.
- `qwen2_5_vl`: integer pixels 0 to W' - 1 of the resized image, center to center: (x + 0.5) / W * W' - 0.5.

A decoded click is a float in [0, W - 1], at most half a quantum (W / 1000 or W / W') from the encoded one.
It is not rounded to a pixel: segmenters take floats, and rounding would only add error. If the quantum is below
one pixel, rounding restores the stored pixel. A second round trip changes nothing.

Format `json` is `[{"point_2d": [x, y], "label": "positive"}, ...]`, and `[]` for no target; `compact` is
`+(512,233) -(80,914)`, and `none` for no target.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from geoclick.clicks import Click, ClickSequence
from geoclick.errors import GeoClickError, UsageError

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
FORMATS = ("json", "compact")
NO_TARGET = {"json": "[]", "compact": "none"}

OUTSIDE = "outside the image"
NOT_A_POINT = "not a point"
TRUNCATED = "truncated"

_NUMBER = r"([-+]?[0-9]{1,20}+(?:\.[0-9]*+)?)"
# Every repetition is possessive or starts at a literal, so that scanning takes linear time on any text.
_OBJECT = re.compile(r"\{([^{}]*+)(\}?)")
_POINT = re.compile(
    rf"point(?:_2d)?[\"']?\s*+:\s*+[\[(]\s*+{_NUMBER}\s*+,\s*+{_NUMBER}\s*+[\])]", re.IGNORECASE
)
_LABEL = re.compile(r"label[\"']?\s*+:\s*+[\"']([^\"']*+)", re.IGNORECASE)
_BRACKET = re.compile(r"(?:([-+])\s{0,8})?\(([^()]*+)(\)?)")
_PAIR = re.compile(rf"\s*+{_NUMBER}\s*+,\s*+{_NUMBER}\s*+")
_COMPACT = re.compile(r"[-+]\([0-9]++,[0-9]++\)(?: [-+]\([0-9]++,[0-9]++\))*+")
_EMPTY_LIST = re.compile(r"\[\s*+\]")


@dataclass(frozen=True)
class Answer:
    """A parsed answer text.

    Attributes:
        clicks: in order, in pixels of the original image, all inside it.
        status: `ok`: a valid answer with clicks; `repaired`: clicks were recovered from a broken answer, or some
            were dropped; `empty`: a no-target answer; `unparsable`: nothing usable, or every click was dropped.
        dropped: one reason for each dropped item.
    """

    clicks: ClickSequence
    status: str
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """How the clicks of one image are written in text: the arguments that `encode` and `decode` share.

    Attributes:
        family: `qwen2_vl`, `qwen2_5_vl` or `qwen3_vl`.
        answer_format: `json` or `compact`.
        image_size: (height, width) of the original image.
        resized_size: (height, width) that the processor resizes it to; needed by `qwen2_5_vl` only.
    """

    family: str
    answer_format: str
    image_size: tuple[int, int]
    resized_size: tuple[int, int] | None = None

    def encode(self, clicks: Iterable[Click]) -> str:
        """The answer text of clicks; errors as in `encode`."""
        return encode(clicks, **vars(self))

    def decode(self, text: str) -> Answer:
        """The clicks of an answer text; errors as in `decode`."""
        return decode(text, **vars(self))


# A parsed point: x, y in the frame of the text and the sign; or the reason why it is invalid.
_Point = tuple[float, float, bool] | str


def encode(
    clicks: Iterable[Click],
    *,
    family: str,
    answer_format: str,
    image_size: tuple[int, int],
    resized_size: tuple[int, int] | None = None,
) -> str:
    """The answer text of clicks.

    Args:
        clicks: in pixels of the original image; an empty sequence means no target.
        family: `qwen2_vl`, `qwen2_5_vl` or `qwen3_vl`.
        answer_format: `json` or `compact`.
        image_size: (height, width) of the original image.
        resized_size: (height, width) that the processor resizes it to; needed by `qwen2_5_vl` only.

    Raises:
        UsageError: unknown family or format, or no `resized_size` for `qwen2_5_vl`.
        GeoClickError: a click lies outside the image.
    """
    height, width = image_size
    resized_height, resized_width = _checked(family, answer_format, resized_size)
    items = []
    for x, y, positive in clicks:
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            raise GeoClickError(
                f"The click ({x:g}, {y:g}) lies outside the {width}x{height} image; fix the click."
            )
        u, v = _to_text(x, width, resized_width), _to_text(y, height, resized_height)
        if answer_format == "json":
            label = "positive" if positive else "negative"
            items.append(f'{{"point_2d": [{u}, {v}], "label": "{label}"}}')
        else:
            items.append(f"{'+' if positive else '-'}({u},{v})")
    if answer_format == "json":
        return f"[{', '.join(items)}]"
    return " ".join(items) or NO_TARGET["compact"]


def decode(
    text: str,
    *,
    family: str,
    answer_format: str,
    image_size: tuple[int, int],
    resized_size: tuple[int, int] | None = None,
) -> Answer:
    """The clicks of an answer text; no text raises an error, and the time is linear in its length.

    `json` accepts a fenced block, surrounding prose, a truncated list (its complete objects), single quotes,
    decimals, the key `point` and any label: `negative`, in upper or lower case, is negative; any other label, such
    as the name of an object, is positive. Boxes are dropped. `compact` accepts other spacing, and a missing sign is
    positive. Clicks outside the image are dropped; the coordinate 1000 is inside.

    Args:
        text: output of the model.
        family: as in `encode`.
        answer_format: as in `encode`.
        image_size: (height, width) of the original image.
        resized_size: as in `encode`.

    Raises:
        UsageError: as in `encode`.
    """
    resized_height, resized_width = _checked(family, answer_format, resized_size)
    if not isinstance(text, str):
        return Answer((), "unparsable", (NOT_A_POINT,))
    valid, empty, points = (_read_json if answer_format == "json" else _read_compact)(text.strip())
    clicks, dropped = [], []
    for point in points:
        if isinstance(point, str):
            dropped.append(point)
            continue
        x = _to_pixel(point[0], image_size[1], resized_width)
        y = _to_pixel(point[1], image_size[0], resized_height)
        if x is None or y is None:
            dropped.append(OUTSIDE)
        else:
            clicks.append(Click(x, y, point[2]))
    if clicks:
        status = "ok" if valid and not dropped else "repaired"
    else:
        status = "empty" if empty and not dropped else "unparsable"
    return Answer(tuple(clicks), status, tuple(dropped))


def answer_regex(
    family: str,
    answer_format: str,
    max_clicks: int = 16,
    resized_size: tuple[int, int] | None = None,
) -> str:
    """A regular expression that matches every text that `encode` writes, and no invalid one.

    It has no look-around or back-reference, so that libraries for constrained decoding accept it.

    Raises:
        UsageError: as in `encode`, or `max_clicks` below 1.
    """
    resized_height, resized_width = _checked(family, answer_format, resized_size)
    if max_clicks < 1:
        raise UsageError(f"max_clicks must be 1 or more, not {max_clicks}.")
    x, y = (_up_to(1000 if side is None else side - 1) for side in (resized_width, resized_height))
    if answer_format == "json":
        click = rf'\{{"point_2d": \[{x}, {y}\], "label": "(?:positive|negative)"\}}'
        return rf"\[(?:{click}(?:, {click}){{0,{max_clicks - 1}}})?\]"
    click = rf"[-+]\({x},{y}\)"
    return rf"(?:{NO_TARGET['compact']}|{click}(?: {click}){{0,{max_clicks - 1}}})"


def _checked(
    family: str, answer_format: str, resized_size: tuple[int, int] | None
) -> tuple[int, int] | tuple[None, None]:
    """(height, width) of the frame of the text in pixels; None for a frame of 0 to 1000."""
    if family not in FAMILIES:
        raise UsageError(f"Unknown VLM family {family!r}; choose one of {', '.join(FAMILIES)}.")
    if answer_format not in FORMATS:
        raise UsageError(f"Unknown answer format {answer_format!r}; choose one of {', '.join(FORMATS)}.")
    if family != "qwen2_5_vl":
        return None, None
    if resized_size is None:
        raise UsageError(
            "The coordinates of qwen2_5_vl are pixels of the resized image; give resized_size=(height, width)."
        )
    return resized_size


def _to_text(x: float, side: int, resized: int | None) -> int:
    """A pixel coordinate in the frame of the text, halves rounded down."""
    center = min(max(x, 0), side - 1) + 0.5
    if resized is not None:
        return min(max(math.ceil(center * resized / side - 1), 0), resized - 1)
    return math.ceil(center * 1000 / side - 0.5)


def _to_pixel(value: float, side: int, resized: int | None) -> float | None:
    """A coordinate in the frame of the text as a pixel in [0, side - 1], or None outside the image."""
    if resized is not None:
        if not 0 <= value < resized:
            return None
        pixel = (value + 0.5) * side / resized - 0.5
    else:
        if not 0 <= value <= 1000:
            return None
        pixel = value * side / 1000 - 0.5
    return float(min(max(pixel, 0), side - 1))


def _read_json(text: str) -> tuple[bool, bool, list[_Point]]:
    """Whether the text is valid, whether it is a no-target answer, and its points."""
    if text.startswith("```"):
        text = text.removeprefix("```").removeprefix("json").removesuffix("```").strip()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, list):
        return True, not content, [_point_of(item) for item in content]
    points = list(_scan_objects(text))
    return False, not points and _EMPTY_LIST.search(text) is not None, points


def _point_of(item: Any) -> _Point:
    """The point of one item of a valid JSON list."""
    point = item.get("point_2d", item.get("point")) if isinstance(item, dict) else None
    if not (isinstance(point, list) and len(point) == 2):
        return NOT_A_POINT
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in point):
        return NOT_A_POINT
    label = item.get("label")
    return point[0], point[1], _is_positive(label if isinstance(label, str) else "")


def _scan_objects(text: str) -> Iterator[_Point]:
    """The points in the innermost braces of a broken text."""
    for match in _OBJECT.finditer(text):
        inside, closed = match.groups()
        point, label = _POINT.search(inside), _LABEL.search(inside)
        if not closed and match.end() == len(text):
            # The label may be cut off, and with it the sign.
            yield TRUNCATED
        elif point:
            yield float(point[1]), float(point[2]), _is_positive(label[1] if label else "")
        elif closed:
            yield NOT_A_POINT


def _read_compact(text: str) -> tuple[bool, bool, list[_Point]]:
    """Like `_read_json`, for the compact format."""
    points: list[_Point] = []
    for match in _BRACKET.finditer(text):
        sign, inside, closed = match.groups()
        pair = _PAIR.fullmatch(inside)
        if not closed and match.end() == len(text):
            points.append(TRUNCATED)
        elif pair:
            points.append((float(pair[1]), float(pair[2]), sign != "-"))
        elif sign or closed:
            points.append(NOT_A_POINT)
    return _COMPACT.fullmatch(text) is not None, text.lower().rstrip(".") == NO_TARGET["compact"], points


def _is_positive(label: str) -> bool:
    return label.strip().lower() != "negative"


def _up_to(top: int) -> str:
    """A regular expression of the integers 0 to `top`, without leading zeros."""
    digits = str(top)
    branches = [rf"[1-9][0-9]{{{n - 1}}}" for n in range(len(digits) - 1, 1, -1)]
    if len(digits) > 1:
        branches.append("[0-9]")
    for i, digit in enumerate(digits):
        low = 1 if i == 0 and len(digits) > 1 else 0
        if int(digit) > low:
            rest = len(digits) - i - 1
            branches.append(f"{digits[:i]}[{low}-{int(digit) - 1}]" + (f"[0-9]{{{rest}}}" if rest else ""))
    return f"(?:{'|'.join([digits, *branches])})"
