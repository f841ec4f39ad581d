"""Conversion between clicks and text; each VLM family has its own coordinate frame, which only this module knows.

An integer coordinate of a click is the center of a pixel: pixel x of a width W covers [x - 0.5, x + 0.5]. In text:

- `qwen2_5_vl`: integer pixels 0 to W' - 1 of the resized image, center to center: (x + 0.5) / W * W' - 0.5.
- all others: integers 0 to 1000 over the width or height, edge to edge: (x + 0.5) / W * 1000.

A decoded click is a float in [0, W - 1], at most half a quantum (W / 1000 or W / W') from the encoded one.
It is not rounded to a pixel: segmenters take floats, and rounding would only add error. If the quantum is below
one pixel, rounding restores the stored pixel. A second round trip changes nothing.

Format `json` is `[{"point_2d": [x, y], "label": "positive"}, ...]`, and `[]` for no target; `compact` is
`+(512,233) -(80,914)`, and `none` for no target. In answers of several parts, each click of `json` has
its `"part"`, from 1, and `compact` has a semicolon between parts: `+(512,233) -(80,914); +(300,120)`.

Answers in the format `json` may also hold boxes, as in Qwen-VL's answers to detection and in those of VisionReasoner
(arXiv 2505.12081): `[{"bbox_2d": [left, top, right, bottom], "point_2d": [x, y]}, ...]`. Each box is an object of its
own, a part of the answer. The coordinates of a box are edges: left * W / 1000, or W' in place of 1000.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from geoclick.answer_text import NO_TARGET, NOT_A_POINT, READERS, Corners, PartNumber
from geoclick.clicks import Box, Click, ClickSequence
from geoclick.errors import GeoClickError, UsageError

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
FORMATS = ("json", "compact")

MAX_CLICKS = 96
"""Largest number of clicks of an answer whose format is enforced: 16 parts of six clicks."""

OUTSIDE = "outside the image"
NOT_A_BOX = "not a box"


@dataclass(frozen=True)
class Part:
    """An object of an answer: one prompt of the segmenter.

    Attributes:
        clicks: in order, in pixels of the original image, all inside it; one or more if there is no box.
        box: of the object, in pixels of the original image, inside it; None if the answer holds none.
    """

    clicks: ClickSequence
    box: Box | None = None


@dataclass(frozen=True)
class Answer:
    """A parsed answer text.

    Attributes:
        clicks: of all objects in order, in pixels of the original image, all inside it.
        status: `ok`: a valid answer with clicks or boxes; `repaired`: they were recovered from a broken answer, or
            some were dropped; `empty`: a no-target answer; `unparsable`: nothing usable, or everything was dropped.
        dropped: one reason for each dropped item.
        objects: of an answer with boxes or of several parts; empty for the clicks of one part.
    """

    clicks: ClickSequence
    status: str
    dropped: tuple[str, ...] = ()
    objects: tuple[Part, ...] = ()

    @property
    def parts(self) -> tuple[ClickSequence, ...]:
        """The clicks of each object; none for a no-target answer."""
        return tuple(part.clicks for part in self.prompts)

    @property
    def prompts(self) -> tuple[Part, ...]:
        """The prompts of the segmenter, whose masks are united; none for a no-target answer."""
        return self.objects or ((Part(self.clicks),) if self.clicks else ())


@dataclass(frozen=True)
class Frame:
    """How the clicks of one image are written in text: the arguments that `encode` and `decode` share.

    Attributes:
        family: one of FAMILIES.
        answer_format: `json` or `compact`.
        image_size: (height, width) of the original image.
        resized_size: (height, width) that the processor resizes it to; needed by `qwen2_5_vl` only.
    """

    family: str
    answer_format: str
    image_size: tuple[int, int]
    resized_size: tuple[int, int] | None = None

    def encode(self, clicks: "Iterable[Click] | Iterable[ClickSequence]") -> str:
        """The answer text of clicks or parts; errors as in `encode`."""
        return encode(clicks, **vars(self))

    def beginning(self, clicks: "Iterable[Click] | Iterable[ClickSequence]", count: int) -> str:
        """What `encode` writes up to the end of click `count`; empty for 0; errors as in `encode`."""
        if not count:
            return ""
        text = _text_of(in_parts(clicks), count, self)
        return f"[{text}" if text and self.answer_format == "json" else text

    def decode(self, text: str) -> Answer:
        """The clicks of an answer text; errors as in `decode`."""
        return decode(text, **vars(self))

    def pattern(self, max_clicks: int = MAX_CLICKS) -> str:
        """A regular expression of the answers about this image, see `answer_regex`."""
        return answer_regex(self.family, self.answer_format, max_clicks, self.resized_size)


def encode(
    clicks: Iterable[Click] | Iterable[ClickSequence],
    *,
    family: str,
    answer_format: str,
    image_size: tuple[int, int],
    resized_size: tuple[int, int] | None = None,
) -> str:
    """The answer text of clicks.

    Args:
        clicks: in pixels of the original image, or the clicks of each part; an empty sequence means no target.
        family: one of FAMILIES.
        answer_format: `json` or `compact`.
        image_size: (height, width) of the original image.
        resized_size: (height, width) that the processor resizes it to; needed by `qwen2_5_vl` only.

    Raises:
        UsageError: unknown family or format, or no `resized_size` for `qwen2_5_vl`.
        GeoClickError: a click lies outside the image.
    """
    frame = Frame(family, answer_format, image_size, resized_size)
    text = _text_of(in_parts(clicks), None, frame)
    return f"[{text}]" if answer_format == "json" else text or NO_TARGET["compact"]


def _text_of(parts: list[ClickSequence], count: int | None, frame: Frame) -> str:
    """The text of the first `count` clicks of some parts, None for all, without the brackets of a complete list."""
    resized = _checked(frame.family, frame.answer_format, frame.resized_size)
    texts: list[str] = []
    left = sum(map(len, parts)) if count is None else count
    for number, part in enumerate(parts, start=1):
        written, left = part[:left], left - len(part[:left])
        if written:
            label = f', "part": {number}' if len(parts) > 1 else ""
            texts.append(
                (", " if frame.answer_format == "json" else " ").join(
                    _click_text(click, label, frame, resized) for click in written
                )
            )
    return (", " if frame.answer_format == "json" else "; ").join(texts)


def _click_text(
    click: Click, of_part: str, frame: Frame, resized: tuple[int, int] | tuple[None, None]
) -> str:
    """A click in the answer; `of_part` is added to an item of `json`, and `resized` is that of `_checked`."""
    (x, y, positive), (height, width) = click, frame.image_size
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        raise GeoClickError(
            f"The click ({x:g}, {y:g}) lies outside the {width}x{height} image; fix the click."
        )
    u, v = _to_text(x, width, resized[1]), _to_text(y, height, resized[0])
    if frame.answer_format == "json":
        label = "positive" if positive else "negative"
        return f'{{"point_2d": [{u}, {v}], "label": "{label}"{of_part}}}'
    return f"{'+' if positive else '-'}({u},{v})"


def in_parts(clicks: Iterable[Click] | Iterable[ClickSequence]) -> list[ClickSequence]:
    """The parts that have clicks: one part of clicks, or those of several parts."""
    items = [item for item in clicks if item]
    if items and not isinstance(items[0][0], tuple):
        return [cast(ClickSequence, tuple(items))]
    return cast(list[ClickSequence], items)


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
    decimals, the keys `point` and `bbox` and any label: `negative`, in upper or lower case, is negative; any other
    label, such as the name of an object, is positive. A box is an object with the points of its item, of which
    `point_2d` may hold several, and those of the items after it up to the next box; negative boxes are dropped.
    `compact` accepts other spacing, and a missing sign is positive. Clicks and boxes outside the image are dropped, and
    parts without clicks are left out; the coordinate 1000 is inside.

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
    valid, empty, items = READERS[answer_format](text.strip())
    parts: list[tuple[list[Click], Box | None]] = [([], None)]
    numbered: dict[int, list[Click]] = {}
    clicked, dropped = parts[0][0], []
    for item in items:
        if isinstance(item, str):
            dropped.append(item)
        elif isinstance(item, Corners):
            box = _to_box(item, image_size, (resized_height or 1000, resized_width or 1000))
            parts.append(([], box if isinstance(box, tuple) else None))
            clicked = parts[-1][0]
            dropped += [box] if isinstance(box, str) else []
        elif isinstance(item, PartNumber):
            if item.number not in numbered:
                parts.append(([], None))
            clicked = numbered.setdefault(item.number, parts[-1][0])
        else:
            x = _to_pixel(item[0], image_size[1], resized_width)
            y = _to_pixel(item[1], image_size[0], resized_height)
            if x is None or y is None:
                dropped.append(OUTSIDE)
            else:
                clicked.append(Click(x, y, item[2]))
    objects = tuple(Part(tuple(own), box) for own, box in parts if own or box)
    clicks = tuple(click for one in objects for click in one.clicks)
    if objects:
        status = "ok" if valid and not dropped else "repaired"
    else:
        status = "empty" if empty and not dropped else "unparsable"
    is_one = len(objects) == 1 and objects[0].box is None
    return Answer(clicks, status, tuple(dropped), () if is_one else objects)


def answer_regex(
    family: str,
    answer_format: str,
    max_clicks: int = MAX_CLICKS,
    resized_size: tuple[int, int] | None = None,
) -> str:
    """A regular expression that matches every text that `encode` writes, and no invalid one.

    It allows `max_clicks` clicks, in any number of parts. It has no look-around or back-reference, so libraries for
    constrained decoding accept it, and its length does not depend on `max_clicks`.

    Raises:
        UsageError: as in `encode`, or `max_clicks` below 1.
    """
    resized_height, resized_width = _checked(family, answer_format, resized_size)
    if max_clicks < 1:
        raise UsageError(f"max_clicks must be 1 or more, not {max_clicks}.")
    x, y = (_up_to(1000 if side is None else side - 1) for side in (resized_width, resized_height))
    if answer_format == "json":
        part = '(?:, "part": [1-9][0-9]?)?'
        click = rf'\{{"point_2d": \[{x}, {y}\], "label": "(?:positive|negative)"{part}\}}'
        return rf"\[(?:{click}(?:, {click}){{0,{max_clicks - 1}}})?\]"
    click = rf"[-+]\({x},{y}\)"
    return rf"(?:{NO_TARGET['compact']}|{click}(?:;? {click}){{0,{max_clicks - 1}}})"


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


def _to_box(corners: Corners, size: tuple[int, int], steps: tuple[int, int]) -> Box | str:
    """A box in pixels, or why it is invalid.

    Args:
        corners: in the frame of the text.
        size: (height, width) of the image.
        steps: of the frame of the text along the height and the width.
    """
    left, top, right, bottom = corners
    if not (left < right and top < bottom):
        return NOT_A_BOX
    tall, wide = steps
    if not (left >= 0 and right <= wide and top >= 0 and bottom <= tall):
        return OUTSIDE
    (x, right), (y, bottom) = (
        _outermost(low * side / count, high * side / count, side)
        for low, high, side, count in ((left, right, size[1], wide), (top, bottom, size[0], tall))
    )
    return x, y, right, bottom


def _outermost(low: float, high: float, side: int) -> tuple[float, float]:
    """The outermost pixels between two edges, which are distances from the image's border in pixels."""
    first, last = low, high - 1
    if last < first:
        first = last = (first + last) / 2
    return min(max(first, 0.0), side - 1.0), min(max(last, 0.0), side - 1.0)


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
