"""Texts of models, valid or broken, to clicks, boxes and parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick import codec
from geoclick.clicks import Click
from tests.geoclick.codec_cases import COMPACT, JSON, answers, options, quanta
from tests.hardening.fuzz_answers import fault


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
