"""Clicks to text and back, a frame per VLM family; only here is a frame other than the image's pixels.

A whole number in a click is a pixel's center, so pixel x of a width W covers [x - 0.5, x + 0.5]. In text:

- `qwen2_vl`, `qwen3_vl`: whole numbers 0 to 1000 of the width or height, edge to edge: (x + 0.5) / W * 1000.
- `qwen2_5_vl`: whole pixels 0 to W' - 1 of the resized image, center to center: (x + 0.5) / W * W' - 0.5.

A decoded click is a float in [0, W - 1], at most half a quantum (W / 1000 or W / W') from the encoded one;
it is not rounded to a pixel, since segmenters take floats and rounding would only add error. Rounding it
gives back the stored pixel where the quantum is below one pixel. A second round trip changes nothing.

The format `json` is `[{"point_2d": [x, y], "label": "positive"}, ...]`, no target `[]`; `compact` is
`+(512,233) -(80,914)`, no target `none`.
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
# Every repetition is possessive or starts at a literal, so that scanning stays linear on any text.
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
    """What a text says.

    Attributes:
        clicks: in order, in pixels of the original image; every one inside it.
        status: `ok` a valid answer with clicks; `repaired` clicks were recovered from a broken one, or some
            were dropped; `empty` a no-target answer; `unparsable` nothing usable (also when every click was
            dropped).
        dropped: one reason for each thing that was dropped.
    """

    clicks: ClickSequence
    status: str
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """How the clicks of one image are written: the arguments that `encode` and `decode` share.

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


# A point as read: x, y in the text's frame and its sign; or the reason why there is none.
_Read = tuple[float, float, bool] | str


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
        clicks: in pixels of the original image; none means no target.
        family: `qwen2_vl`, `qwen2_5_vl` or `qwen3_vl`.
        answer_format: `json` or `compact`.
        image_size: (height, width) of the original image.
        resized_size: (height, width) that the processor resizes it to; needed by `qwen2_5_vl` only.

    Raises:
        UsageError: unknown family or format, or no `resized_size` for `qwen2_5_vl`.
        GeoClickError: a click lies outside the image.
    """
    _check(family, answer_format, resized_size)
    items = []
    for x, y, positive in clicks:
        height, width = image_size
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            raise GeoClickError(
                f"The click ({x:g}, {y:g}) lies outside the {width}x{height} image; mend the clicks."
            )
        u = _to_text(x, width, resized_size and resized_size[1], family)
        v = _to_text(y, height, resized_size and resized_size[0], family)
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
    """The clicks of an answer text; never raises on the text, and takes time linear in its length.

    `json` accepts a fenced block, prose around, a cut list (its whole objects), single quotes, fractions,
    the key `point` and any label: `negative` in any case is negative, all else, such as an object's name, is
    positive. Boxes are dropped. `compact` accepts other spacing and missing signs (positive). Clicks outside
    the image are dropped; 1000 is inside.

    Args:
        text: what the model wrote.
        family: as in `encode`.
        answer_format: as in `encode`.
        image_size: (height, width) of the original image.
        resized_size: as in `encode`.

    Raises:
        UsageError: as in `encode`.
    """
    _check(family, answer_format, resized_size)
    if not isinstance(text, str):
        return Answer((), "unparsable", (NOT_A_POINT,))
    valid, empty, points = (_read_json if answer_format == "json" else _read_compact)(text.strip())
    clicks, dropped = [], []
    for point in points:
        if isinstance(point, str):
            dropped.append(point)
            continue
        x = _to_pixel(point[0], image_size[1], resized_size and resized_size[1], family)
        y = _to_pixel(point[1], image_size[0], resized_size and resized_size[0], family)
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
    """A regular expression that fully matches what `encode` writes and nothing invalid.

    It uses no look-around or back-reference, so that constrained decoders take it.

    Raises:
        UsageError: as in `encode`, or `max_clicks` below 1.
    """
    _check(family, answer_format, resized_size)
    if max_clicks < 1:
        raise UsageError(f"max_clicks must be 1 or more, not {max_clicks}.")
    if family == "qwen2_5_vl":
        x, y = _up_to(resized_size[1] - 1), _up_to(resized_size[0] - 1)
    else:
        x = y = _up_to(1000)
    if answer_format == "json":
        click = rf'\{{"point_2d": \[{x}, {y}\], "label": "(?:positive|negative)"\}}'
        return rf"\[(?:{click}(?:, {click}){{0,{max_clicks - 1}}})?\]"
    click = rf"[-+]\({x},{y}\)"
    return rf"(?:{NO_TARGET['compact']}|{click}(?: {click}){{0,{max_clicks - 1}}})"


def _check(family: str, answer_format: str, resized_size: tuple[int, int] | None) -> None:
    if family not in FAMILIES:
        raise UsageError(f"Unknown VLM family {family!r}; choose one of {', '.join(FAMILIES)}.")
    if answer_format not in FORMATS:
        raise UsageError(f"Unknown answer format {answer_format!r}; choose one of {', '.join(FORMATS)}.")
    if family == "qwen2_5_vl" and resized_size is None:
        raise UsageError("qwen2_5_vl counts pixels of the resized image; give resized_size=(height, width).")


def _to_text(x: float, side: int, resized: int | None, family: str) -> int:
    """A pixel coordinate in the text's frame, halves rounded down."""
    center = min(max(x, 0), side - 1) + 0.5
    if family == "qwen2_5_vl":
        return min(max(math.ceil(center * resized / side - 1), 0), resized - 1)
    return math.ceil(center * 1000 / side - 0.5)


def _to_pixel(value: float, side: int, resized: int | None, family: str) -> float | None:
    """A coordinate of the text's frame as a pixel in [0, side - 1], or None outside the image."""
    if family == "qwen2_5_vl":
        if not 0 <= value < resized:
            return None
        pixel = (value + 0.5) * side / resized - 0.5
    else:
        if not 0 <= value <= 1000:
            return None
        pixel = value * side / 1000 - 0.5
    return float(min(max(pixel, 0), side - 1))


def _read_json(text: str) -> tuple[bool, bool, list[_Read]]:
    """Whether the text is valid, whether it says that there is no target, and what it points at."""
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


def _point_of(item: Any) -> _Read:
    """What one member of a valid JSON list points at."""
    point = item.get("point_2d", item.get("point")) if isinstance(item, dict) else None
    if not (isinstance(point, list) and len(point) == 2):
        return NOT_A_POINT
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in point):
        return NOT_A_POINT
    label = item.get("label")
    return point[0], point[1], _is_positive(label if isinstance(label, str) else "")


def _scan_objects(text: str) -> Iterator[_Read]:
    """What the innermost braces of a broken text point at."""
    for match in _OBJECT.finditer(text):
        inside, closed = match.groups()
        point, label = _POINT.search(inside), _LABEL.search(inside)
        if not closed and match.end() == len(text):
            # The label may have been cut, and with it the sign.
            yield TRUNCATED
        elif point:
            yield float(point[1]), float(point[2]), _is_positive(label[1] if label else "")
        elif closed:
            yield NOT_A_POINT


def _read_compact(text: str) -> tuple[bool, bool, list[_Read]]:
    """Like `_read_json`, for the compact format."""
    points: list[_Read] = []
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
    """A regular expression of the whole numbers 0 to `top`, without leading zeros."""
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
