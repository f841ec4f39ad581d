import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoclick import codec
from geoclick.clicks import Click
from geoclick.errors import GeoClickError, UsageError
from tests.hardening.fuzz_answers import fault

RELATIVE = {"family": "qwen3_vl", "image_size": (480, 640)}
JSON = {**RELATIVE, "answer_format": "json"}
COMPACT = {**RELATIVE, "answer_format": "compact"}

sides = st.integers(1, 6000)
options = st.fixed_dictionaries(
    {
        "family": st.sampled_from(codec.FAMILIES),
        "answer_format": st.sampled_from(codec.FORMATS),
        "image_size": st.tuples(sides, sides),
        "resized_size": st.tuples(sides, sides),
    }
)


@st.composite
def answers(draw, max_clicks=16):
    """Clicks anywhere in an image, with the options to write them."""
    kwargs = draw(options)
    height, width = kwargs["image_size"]
    x = st.integers(0, width - 1) | st.floats(0, width - 1)
    y = st.integers(0, height - 1) | st.floats(0, height - 1)
    clicks = draw(st.lists(st.builds(Click, x, y, st.booleans()), max_size=max_clicks))
    return clicks, kwargs


def quanta(family, image_size, resized_size, **_):
    text = resized_size if family == "qwen2_5_vl" else (1000, 1000)
    return [side / other for side, other in zip(image_size, text, strict=True)]


@given(answers())
def test_round_trip_stays_within_half_a_quantum(answer):
    clicks, kwargs = answer
    back = codec.decode(codec.encode(clicks, **kwargs), **kwargs)
    frame = codec.Frame(**kwargs)
    assert frame.encode(clicks) == codec.encode(clicks, **kwargs)
    assert frame.decode(frame.encode(clicks)) == back
    assert back.status == ("ok" if clicks else "empty")
    assert back.dropped == ()
    assert len(back.clicks) == len(clicks)
    height, width = kwargs["image_size"]
    tall, wide = quanta(**kwargs)
    for given_click, click in zip(clicks, back.clicks, strict=True):
        assert click.positive == given_click.positive
        assert abs(click.x - given_click.x) <= wide / 2 + 1e-6
        assert abs(click.y - given_click.y) <= tall / 2 + 1e-6
        assert 0 <= click.x <= width - 1
        assert 0 <= click.y <= height - 1


@given(answers())
def test_second_round_trip_changes_nothing(answer):
    clicks, kwargs = answer
    text = codec.encode(clicks, **kwargs)
    once = codec.decode(text, **kwargs).clicks
    assert codec.encode(once, **kwargs) == text
    assert codec.decode(codec.encode(once, **kwargs), **kwargs).clicks == once


@given(answers(), st.data())
def test_parts_are_read_back_within_half_a_quantum(answer, data):
    clicks, kwargs = answer
    ends = sorted(data.draw(st.sets(st.integers(1, max(1, len(clicks) - 1)), max_size=5)))
    parts = [tuple(clicks[a:b]) for a, b in pairwise([0, *ends, len(clicks)])]
    text = codec.encode(parts, **kwargs)
    back = codec.decode(text, **kwargs)
    given_parts = [part for part in parts if part]
    assert [len(part) for part in back.parts] == [len(part) for part in given_parts]
    assert back.clicks == codec.decode(codec.encode(clicks, **kwargs), **kwargs).clicks
    assert back.status == ("ok" if clicks else "empty")
    assert codec.encode(back.parts, **kwargs) == text
    if len(given_parts) < 2:
        assert text == codec.encode(clicks, **kwargs)
    pattern = codec.answer_regex(kwargs["family"], kwargs["answer_format"], 16, kwargs["resized_size"])
    assert re.fullmatch(pattern, text)


def test_forms_of_parts():
    parts = [(Click(327.2, 111.3), Click(51, 438, False)), (Click(191.7, 57.3),)]
    assert codec.encode(parts, **COMPACT) == "+(512,233) -(80,914); +(300,120)"
    assert codec.encode(parts, **JSON) == (
        '[{"point_2d": [512, 233], "label": "positive", "part": 1}, '
        '{"point_2d": [80, 914], "label": "negative", "part": 1}, '
        '{"point_2d": [300, 120], "label": "positive", "part": 2}]'
    )


@pytest.mark.parametrize(
    ("text", "kwargs", "lengths", "status"),
    [
        ("+(1,2);+(3,4) ; -(5,6)", COMPACT, [1, 1, 1], "repaired"),
        (";; +(1,2);", COMPACT, [1], "repaired"),
        ("+(1,2); +(2000,4); +(5,6)", COMPACT, [1, 1], "repaired"),
        ("+(1;2) +(3,4)", COMPACT, [1], "repaired"),
        # A number that returns continues its part; points without one stay with those before them.
        (
            '[{"point_2d": [1, 1], "part": 1}, {"point_2d": [2, 2], "part": 2}, {"point_2d": [3, 3], "part": 1}, '
            '{"point_2d": [4, 4]}]',
            JSON,
            [3, 1],
            "ok",
        ),
        (
            "[{'point_2d': [1, 1], 'part': 1}, {'point_2d': [2, 2], 'part': 2}, {'poi",
            JSON,
            [1, 1],
            "repaired",
        ),
        ('[{"point_2d": [1, 1], "part": "one"}, {"point_2d": [2, 2], "part": true}]', JSON, [2], "ok"),
    ],
)
def test_parts_of_loose_answers(text, kwargs, lengths, status):
    answer = codec.decode(text, **kwargs)
    assert [len(part) for part in answer.parts] == lengths
    assert answer.status == status


@given(st.integers(1, 999), st.data())
def test_whole_pixels_survive_below_a_thousand(width, data):
    x = data.draw(st.integers(0, width - 1))
    kwargs = {"family": "qwen2_vl", "answer_format": "compact", "image_size": (1, width)}
    (click,) = codec.decode(codec.encode([Click(x, 0)], **kwargs), **kwargs).clicks
    assert round(click.x) == x


@given(answers())
def test_regex_matches_what_encode_writes(answer):
    clicks, kwargs = answer
    pattern = codec.answer_regex(kwargs["family"], kwargs["answer_format"], 16, kwargs["resized_size"])
    assert re.fullmatch(pattern, codec.encode(clicks, **kwargs))
    assert codec.Frame(**kwargs).pattern(16) == pattern


@settings(max_examples=60)
@given(st.data(), options, st.integers(1, 3))
def test_regex_matches_valid_answers_only(data, kwargs, max_clicks):
    pattern = codec.answer_regex(
        kwargs["family"], kwargs["answer_format"], max_clicks, kwargs["resized_size"]
    )
    text = data.draw(st.from_regex(pattern, fullmatch=True))
    answer = codec.decode(text, **kwargs)
    assert answer.status in ("ok", "empty")
    assert len(answer.clicks) <= max_clicks


@pytest.mark.parametrize("top", [0, 1, 9, 10, 19, 99, 100, 447, 1000, 1008])
def test_number_pattern_is_exact(top):
    pattern = re.compile(codec._up_to(top))
    assert all(bool(pattern.fullmatch(str(n))) == (n <= top) for n in range(12 * top + 120))
    assert not pattern.fullmatch("00")


def test_regex_limits_the_clicks():
    pattern = codec.answer_regex("qwen3_vl", "compact", max_clicks=2)
    assert re.fullmatch(pattern, "+(1,2) -(3,4)")
    assert not re.fullmatch(pattern, "+(1,2) -(3,4) +(5,6)")
    assert not re.fullmatch(pattern, "+(1001,2)")
    assert not re.fullmatch(pattern, "")


def test_forms():
    clicks = [Click(327.2, 111.3), Click(51, 438, False)]
    assert codec.encode(clicks, **COMPACT) == "+(512,233) -(80,914)"
    assert codec.encode(clicks, **JSON) == (
        '[{"point_2d": [512, 233], "label": "positive"}, {"point_2d": [80, 914], "label": "negative"}]'
    )
    assert codec.encode([], **COMPACT) == "none"
    assert codec.encode([], **JSON) == "[]"


def test_absolute_pixels_are_the_resized_images():
    kwargs = {"family": "qwen2_5_vl", "answer_format": "compact", "image_size": (100, 200)}
    assert codec.encode([Click(150, 70)], **kwargs, resized_size=(100, 200)) == "+(150,70)"
    assert codec.encode([Click(199, 99)], **kwargs, resized_size=(200, 400)) == "+(398,198)"
    (click,) = codec.decode("+(399,0)", **kwargs, resized_size=(200, 400)).clicks
    assert click == Click(199.0, 0.0)
    assert codec.decode("+(400,0)", **kwargs, resized_size=(200, 400)).dropped == (codec.OUTSIDE,)


def test_a_thousand_is_the_last_pixel():
    answer = codec.decode("+(1000,1000) -(0,0)", **COMPACT)
    assert answer == codec.Answer((Click(639.0, 479.0), Click(0.0, 0.0, False)), "ok")


POINT = '{"point_2d": [500, 500], "label": "positive"}'
NEGATIVE = '{"point_2d": [250, 250], "label": "negative"}'


@pytest.mark.parametrize(
    ("text", "signs", "status", "dropped"),
    [
        (f"```json\n[{POINT}]\n```", "+", "ok", 0),
        ('[\n {"label": "Ship {2}", "point_2d": [5.5, 7.25]}\n]', "+", "ok", 0),
        (f"Here it is: [{POINT}, {NEGATIVE}]. Done", "+-", "repaired", 0),
        (f'[{POINT}, {NEGATIVE}, {{"point_2d": [1, 2', "+-", "repaired", 1),
        (f'```json\n[{POINT}, {{"point_2d": [1, 2], "label": "neg', "+", "repaired", 1),
        ("[{'point_2d': [500, 500], 'label': 'Negative'}]", "-", "repaired", 0),
        ('[{"point": [1, 2], "label": "NEGATIVE"}]', "-", "ok", 0),
        ('[{"point_2d": [1, 2]}, {"point_2d": [1, 2], "label": 3}]', "++", "ok", 0),
        (POINT, "+", "repaired", 0),
        (f'{{"points": [{POINT}]}}', "+", "repaired", 0),
        (f'[{POINT}, {{"bbox_2d": [1, 2, 3, 4], "label": "ship"}}]', "+", "ok", 0),
        (f'[{POINT}, {{"bbox_2d": [1, 2, 3, 4], "label": "negative"}}]', "+", "repaired", 1),
        (f'[{POINT}, {{"bbox_2d": [3, 2, 1, 4]}}]', "+", "repaired", 1),
        (f'[{POINT}, {{"bbox_2d": [1, 2, 3], "point_2d": [2, 2]}}]', "++", "repaired", 1),
        (f'[{POINT}, {{"bbox_2d": [1, 2, 3, 1001]}}]', "+", "repaired", 1),
        (f'[{POINT}, {{"point_2d": [1200, 3], "label": "x"}}, {POINT}]', "++", "repaired", 1),
        (f'[{POINT}, {{"point_2d": [-1, 3]}}, {{"point_2d": [NaN, 3]}}]', "+", "repaired", 2),
        (f'[{POINT}, [1, 2], {{"point_2d": [true, 2]}}, {{"point_2d": [[1], 2]}}, 7]', "+", "repaired", 4),
        (f'[{POINT}, {{"point_2d": [1{"0" * 400}, Infinity]}}]', "+", "repaired", 1),
        ('[{"point_2d": [5000, 3], "label": "x"}]', "", "unparsable", 1),
        ('[{"bbox_2d": [1, 2, 3, 4]}]', "", "ok", 0),
        ('[{"bbox_2d": [1, 2, 3, 4', "", "unparsable", 1),
        ('[{"bbox_2d": [1, 2, true, 4]}]', "", "unparsable", 1),
        ('[{"point_2d": [5', "", "unparsable", 1),
        ("[]", "", "empty", 0),
        (" [ ] ", "", "empty", 0),
        ("```json\n[]\n```", "", "empty", 0),
        ("There is none: []", "", "empty", 0),
        ("", "", "unparsable", 0),
        ("I cannot see it.", "", "unparsable", 0),
        ("null", "", "unparsable", 0),
    ],
)
def test_json_answers(text, signs, status, dropped):
    answer = codec.decode(text, **JSON)
    assert "".join("+" if click.positive else "-" for click in answer.clicks) == signs
    assert (answer.status, len(answer.dropped)) == (status, dropped)


@pytest.mark.parametrize(
    ("text", "signs", "status", "dropped"),
    [
        (" +(1,2) -(3,4)\n", "+-", "ok", 0),
        ("+(1, 2)-( 3.5 ,4)", "+-", "repaired", 0),
        ("Clicks: (1,2) and - (3,4)", "+-", "repaired", 0),
        ("+(1,2) -(3", "+", "repaired", 1),
        ("+(1,2) -(3,4", "+", "repaired", 1),
        ("+(1,2) -", "+", "repaired", 0),
        ("+(1,2) -(3,1001)", "+", "repaired", 1),
        ("+(1,2,3) +(4,5)", "+", "repaired", 1),
        ("+(-1,2)", "", "unparsable", 1),
        ("+(nan,2) +(inf,1) +(1e400,1)", "", "unparsable", 3),
        ("none", "", "empty", 0),
        ("None.", "", "empty", 0),
        ("none +(1,2)", "+", "repaired", 0),
        ("", "", "unparsable", 0),
        ("[]", "", "unparsable", 0),
    ],
)
def test_compact_answers(text, signs, status, dropped):
    answer = codec.decode(text, **COMPACT)
    assert "".join("+" if click.positive else "-" for click in answer.clicks) == signs
    assert (answer.status, len(answer.dropped)) == (status, dropped)


BOX = '{"bbox_2d": [100, 200, 300, 400], "label": "ship"}'
ANOTHER = '{"bbox_2d": [0, 0, 1000, 1000], "point_2d": [500, 500]}'
OF_BOX = (64.0, 96.0, 191.0, 191.0)
OF_ANOTHER = (0.0, 0.0, 639.0, 479.0)
CENTER, CORNER = Click(319.5, 239.5), Click(159.5, 119.5, False)


@pytest.mark.parametrize(
    ("text", "status", "parts"),
    [
        (f"[{BOX}]", "ok", [((), OF_BOX)]),
        (f"[{BOX}, {ANOTHER}]", "ok", [((), OF_BOX), ((CENTER,), OF_ANOTHER)]),
        # Points after a box belong to it, those before the first box are an object of their own.
        (f"[{ANOTHER}, {NEGATIVE}]", "ok", [((CENTER, CORNER), OF_ANOTHER)]),
        (f"[{POINT}, {BOX}, {NEGATIVE}]", "ok", [((CENTER,), None), ((CORNER,), OF_BOX)]),
        ('[{"bbox": [100, 200, 300, 400], "point_2d": [[500, 500]]}]', "ok", [((CENTER,), OF_BOX)]),
        # A point of a box that cannot be used is not one of the box before.
        (
            f'[{BOX}, {{"bbox_2d": [9, 9, 1, 1], "point_2d": [500, 500]}}]',
            "repaired",
            [((), OF_BOX), ((CENTER,), None)],
        ),
        (f"Here: [{BOX}, {ANOTHER}, {{", "repaired", [((), OF_BOX), ((CENTER,), OF_ANOTHER)]),
        (f"[{POINT}]", "ok", []),
        ('[{"bbox_2d": [9, 9, 1, 1]}]', "unparsable", []),
    ],
)
def test_boxes_are_objects(text, status, parts):
    answer = codec.decode(text, **JSON)
    assert answer.status == status
    assert answer.objects == tuple(codec.Part(clicks, box) for clicks, box in parts)
    assert answer.prompts == (answer.objects or ((codec.Part(answer.clicks),) if answer.clicks else ()))
    if parts:
        assert answer.clicks == tuple(click for part in answer.objects for click in part.clicks)


@st.composite
def boxes(draw):
    """The outermost pixels of a box in an image, with the options of its text."""
    kwargs = draw(options) | {"answer_format": "json"}
    edges = []
    for side in kwargs["image_size"][::-1]:
        low = draw(st.integers(0, side - 1))
        edges.append((low, draw(st.integers(low, side - 1))))
    (left, right), (top, bottom) = edges
    return (left, top, right, bottom), kwargs


@given(boxes())
def test_a_box_is_read_within_half_a_quantum(case):
    box, kwargs = case
    tall, wide = quanta(**kwargs)
    edges = [
        round(value) for value in (box[0] / wide, box[1] / tall, (box[2] + 1) / wide, (box[3] + 1) / tall)
    ]
    answer = codec.decode(f'[{{"bbox_2d": {edges}}}]', **kwargs)
    if edges[0] == edges[2] or edges[1] == edges[3]:
        assert answer.dropped == (codec.NOT_A_BOX,)
        return
    (part,) = answer.objects
    height, width = kwargs["image_size"]
    left, top, right, bottom = part.box
    assert 0 <= left <= right <= width - 1
    assert 0 <= top <= bottom <= height - 1
    for read, written, quantum in zip(part.box, box, (wide, tall) * 2, strict=True):
        # A box below a pixel is its center, up to half a pixel from both edges.
        assert abs(read - written) <= max(quantum, 1) / 2 + 1e-6


characters = st.sampled_from("[]{}(),;:+-\"'\\` .0123456789e")
words = st.sampled_from(
    [
        '"point_2d"',
        '"bbox_2d"',
        '"label"',
        '"part": 2',
        '"negative"',
        "point",
        "NaN",
        "Infinity",
        "```json",
        "none",
        "1000",
        "\n",
        "٣",
    ]
)
pieces = characters | words


@settings(max_examples=300)
@given(st.text() | st.lists(pieces, max_size=60).map("".join), options)
def test_no_text_raises_and_clicks_lie_inside(text, kwargs):
    assert not fault(codec.decode(text, **kwargs), kwargs)


@given(answers(max_clicks=4), st.data())
def test_a_cut_answer_gives_a_beginning_of_its_clicks(answer, data):
    clicks, kwargs = answer
    text = codec.encode(clicks, **kwargs)
    whole = codec.decode(text, **kwargs).clicks
    cut = codec.decode(text[: data.draw(st.integers(0, len(text)))], **kwargs).clicks
    assert cut == whole[: len(cut)]


@pytest.mark.parametrize("text", [None, 3, b"[]", ["[]"], float("nan")])
def test_what_is_no_text_is_unparsable(text):
    for kwargs in (JSON, COMPACT):
        assert codec.decode(text, **kwargs).status == "unparsable"


def test_usage_errors():
    for wrong in ({"family": "gpt"}, {"answer_format": "xml"}, {"family": "qwen2_5_vl"}):
        with pytest.raises(UsageError):
            codec.encode([], **{**JSON, **wrong})
        with pytest.raises(UsageError):
            codec.decode("[]", **{**JSON, **wrong})
    with pytest.raises(UsageError):
        codec.answer_regex("qwen2_5_vl", "json")
    with pytest.raises(UsageError):
        codec.answer_regex("qwen3_vl", "json", max_clicks=0)


@pytest.mark.parametrize(
    "click", [Click(640, 3), Click(3, -1), Click(float("nan"), 3), Click(3, float("inf"))]
)
def test_encode_refuses_clicks_outside(click):
    with pytest.raises(GeoClickError, match="outside"):
        codec.encode([click], **JSON)
