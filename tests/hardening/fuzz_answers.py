"""Random hostile answers for the codec: valid answers that are cut, doubled, spliced and filled with odd characters.

python -m tests.hardening.fuzz_answers --count 1000000
python -m tests.hardening.fuzz_answers --times
"""

import argparse
import json
import math
import random
import time
from collections import Counter

from geoclick import codec
from geoclick.clicks import Click

LENGTHS = (10_000, 100_000, 1_000_000, 10_000_000)
"""Characters of the answers whose time is measured."""

PIECES = (
    *"[]{}(),;:+-\"'\\` .0123456789eE\n\t\0",
    *('"point_2d": ', '"bbox_2d": ', '"label": ', '"part": ', '"negative"', '"positive"', "point", "bbox: ["),
    *(
        '{"point_2d": [',
        '{"bbox_2d": [1, 2, 3, 4], "point_2d": [',
        "+(",
        "-(",
        "; ",
        "none",
        "[]",
        "```json\n",
    ),
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e-999",
        "1" * 30,
        "9" * 5000,
        "0x10",
        "1_0",
        "true",
        "null",
    ),
    *(
        "\u0663",
        "\u0969",
        "\uff11",
        "\u00b2",
        "\u00bd",
        "\U0001d7d9",
        "\u2167",
        "\u22125",
        "\u202e",
        "\u2028",
        "\ufeff",
        "\ud800",
        "\udcff",
        "\ud83d",
    ),
    *("1000", "1001", "-1", "-0", "-0.0", "1000.0000000001", "999.9999999999999999"),
)
"""What is put into an answer; digits of other scripts and halves of surrogate pairs, too."""

FAR = (0, 1, 999, 1000, 1001, 4096, -1, 2**31, 2**63, 10**20, 0.5, 1e300, math.nan, math.inf)
"""Coordinates of items that no encoder writes."""


def frame(rng):
    """The options of a random image."""

    def size():
        return rng.choice((1, 2, 28, 1000, 6000, rng.randint(1, 6000))), rng.randint(1, 6000)

    return {
        "family": rng.choice(codec.FAMILIES),
        "answer_format": rng.choice(codec.FORMATS),
        "image_size": size(),
        "resized_size": size(),
    }


def valid(rng, kwargs):
    """An answer of up to four parts, or one with boxes, in a frame."""
    height, width = kwargs["image_size"]
    if kwargs["answer_format"] == "json" and rng.random() < 0.3:
        write = rng.choice((str, json.dumps))
        return write([item(rng) for _ in range(rng.randint(1, 4))])
    parts = [
        tuple(
            Click(rng.uniform(0, width - 1), rng.uniform(0, height - 1), rng.random() < 0.7)
            for _ in range(rng.randint(0, 4))
        )
        for _ in range(rng.randint(0, 4))
    ]
    return codec.encode(parts, **kwargs)


def item(rng):
    """A box or a point, with coordinates that may be impossible."""
    count = rng.choice((1, 2, 2, 3, 4, 4, 4))
    values = [rng.choice(FAR) if rng.random() < 0.2 else rng.randint(0, 1000) for _ in range(count)]
    key = "bbox_2d" if count > 2 else "point_2d"
    return {key: values, "label": rng.choice(("positive", "negative", "ship")), "part": rng.choice(FAR)}


def cut(rng, text, at):
    return text[:at] if rng.random() < 0.5 else text[at:]


def without_slice(rng, text, at):
    return text[:at] + text[at + rng.randint(1, 20) :]


def with_piece(rng, text, at):
    return text[:at] + rng.choice(PIECES) + text[at + rng.randint(0, 2) :]


def with_character(rng, text, at):
    return text[:at] + chr(rng.randrange(0x110000)) + text[at + 1 :]


def doubled(rng, text, at):
    end = at + rng.randint(1, 60)
    return text[:end] + text[at:end] * rng.randint(1, 5) + text[end:]


def nested(rng, text, at):
    depth = rng.choice((1, 3, 30, 300, 3000))
    opening, closing = rng.choice(("[]", "{}", "()", ("{'a': ", "}"), ("[[", "")))
    return text[:at] + opening * depth + text[at:] + closing * depth


def swapped(rng, text, at):
    return text[at:] + text[:at]


def in_other_digits(rng, text, at):
    zero = ord(rng.choice("\u0660\u0966\uff10\U0001d7d8"))
    end = at + rng.randint(1, 40)
    return text[:at] + text[at:end].translate({48 + i: zero + i for i in range(10)}) + text[end:]


def lengthened(rng, text, at):
    return text[:at] + rng.choice(PIECES) * rng.choice((10, 100, 1000)) + text[at:]


CHANGES = (
    *(cut, without_slice, with_piece, with_piece, with_piece, with_character, doubled, swapped),
    *(in_other_digits, without_slice, with_piece, doubled),
)
RARE = (nested, lengthened)
"""Changes that make long answers, one in 16."""


def hostile(rng, kwargs, earlier=""):
    """An answer in a frame after up to six changes; `earlier` may be spliced in."""
    text = valid(rng, kwargs)
    for _ in range(rng.randint(0, 6)):
        change = rng.choice(RARE if rng.random() < 1 / 16 else CHANGES)
        text = change(rng, text, rng.randint(0, len(text)))
    if rng.random() < 0.05:
        text = text[: len(text) // 2] + earlier[len(earlier) // 2 :]
    return text


def fault(answer, kwargs):
    """What is wrong with a decoded answer; empty if nothing is."""
    height, width = kwargs["image_size"]
    if not all(0 <= c.x <= width - 1 and 0 <= c.y <= height - 1 for c in answer.clicks):
        return "a click outside the image"
    for part in answer.objects:
        left, top, right, bottom = part.box or (0, 0, 0, 0)
        if not (0 <= left <= right <= width - 1 and 0 <= top <= bottom <= height - 1):
            return "a box outside the image"
        if not (part.clicks or part.box):
            return "a part without clicks or a box"
    if (answer.status in ("ok", "repaired")) != bool(answer.prompts):
        return "a status that does not suit its clicks"
    if answer.parts != tuple(part.clicks for part in answer.prompts):
        return "parts that are not those of its prompts"
    if answer.clicks != tuple(click for part in answer.prompts for click in part.clicks):
        return "clicks that are not those of its parts"
    return "dropped items in a valid answer" if answer.status in ("ok", "empty") and answer.dropped else ""


def run(count, seed=0):
    """Decode random answers; returns their number by status, and (text, options, what is wrong) of each fault."""
    rng = random.Random(seed)
    statuses, faults, text = Counter(), [], ""
    for _ in range(count):
        kwargs = frame(rng)
        text = hostile(rng, kwargs, text[:10_000])
        try:
            answer = codec.decode(text, **kwargs)
            reason = fault(answer, kwargs)
            statuses[answer.status] += 1
        except Exception as error:  # any exception is the fault that is looked for
            reason = repr(error)
        if reason:
            faults.append((text[:2000], kwargs, reason))
    return statuses, faults


SHAPES = {
    "braces": "{",
    "brackets": "[",
    "parentheses": "+(",
    "signs": "+",
    "spaced signs": "+ ",
    "spaces": ("-", " ", "("),
    "points": '{"point_2d": [',
    "points in one object": ("{", '"point": ', "}"),
    "point and spaces": ('{"point": [', " ", "}"),
    "boxes": '{"bbox_2d": [',
    "box and spaces": ('{"bbox": [1, 2,', " ", "}"),
    "label and spaces": ('{"label":', " ", "}"),
    "labels": ("{", '"label": "', ""),
    "digits": ('[{"point_2d": [', "9", ", 1]}]"),
    "Unicode digits": ('[{"point_2d": [', "\u0663", ", 1]}]"),
    "decimals": ("+(1.", "0", ",1)"),
    "semicolons": "; ",
    "parts": '{"part": 1, "point": [1, 2]}',
    "valid items": ("[", '{"point_2d": [1, 2], "part": 1}, ', '{"point_2d": [1, 2]}]'),
    "different parts": ("", "+(1,2); ", ""),
    "pairs": ("+(", "9,", ")"),
    "quotes": ('["', '\\"', ""),
    "fences": "```",
    "empty lists": "[ ",
    "surrogates": "\ud800",
    "combining marks": "a\u0301",
}
"""Long answers: what is repeated, or (beginning, what is repeated, end)."""


def long_answer(name, length):
    """A long answer of about so many characters."""
    shape = SHAPES[name]
    beginning, middle, end = shape if isinstance(shape, tuple) else ("", shape, "")
    return beginning + middle * (length // len(middle)) + end


def seconds_of(name, answer_format, length, repeats=1):
    """CPU time of decoding a long answer, the smallest of several."""
    text = long_answer(name, length)
    best = math.inf
    for _ in range(repeats):
        start = time.process_time()
        answer = codec.decode(text, family="qwen3_vl", answer_format=answer_format, image_size=(480, 640))
        best = min(best, time.process_time() - start)
        del answer
    return best


def exponent(lengths, seconds):
    """The slope of log time against log length, by least squares: 1 is linear, 2 is quadratic."""
    points = [(math.log(n), math.log(max(s, 1e-6))) for n, s in zip(lengths, seconds, strict=True)]
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return above / sum((x - mean_x) ** 2 for x, _ in points)


def times(lengths=LENGTHS):
    """{(shape, format): (seconds for each length, exponent)} of all long answers."""
    found = {}
    for name in SHAPES:
        for answer_format in codec.FORMATS:
            seconds = [
                seconds_of(name, answer_format, length, 3 if length < 10**6 else 1) for length in lengths
            ]
            found[name, answer_format] = seconds, exponent(lengths, seconds)
    return found


def table_of(found, lengths=LENGTHS):
    """The times as lines of a Markdown table."""
    lines = [f"| answer | format | {' | '.join(f'{n:.0e}' for n in lengths)} | exponent |"]
    lines.append("|---" * (len(lengths) + 3) + "|")
    for (name, answer_format), (seconds, slope) in found.items():
        lines.append(
            f"| {name} | {answer_format} | {' | '.join(f'{s:.5f}' for s in seconds)} | {slope:.2f} |"
        )
    return lines


def main():
    """Fuzz, or measure times, and print the result; exit code 1 if there are faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--times", action="store_true", help="measure time against length instead")
    options = parser.parse_args()
    if options.times:
        print("\n".join(table_of(times())))
        return 0
    start = time.process_time()
    statuses, faults = run(options.count, options.seed)
    for text, kwargs, reason in faults[:20]:
        print(f"{reason}: {text!a} {kwargs}")
    counts = ", ".join(f"{number:,} {status}" for status, number in sorted(statuses.items()))
    print(
        f"{options.count:,} answers in {time.process_time() - start:.0f} s of CPU: {counts}; {len(faults)} faults"
    )
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
