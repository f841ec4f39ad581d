"""Clicks to text and back: round trips, the forms of answers, and clicks that cannot be written."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoclick import codec
from geoclick.clicks import Click
from geoclick.errors import GeoClickError, UsageError
from tests.geoclick.codec_cases import COMPACT, JSON, answers, quanta


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


@given(st.integers(1, 999), st.data())
def test_whole_pixels_survive_below_a_thousand(width, data):
    x = data.draw(st.integers(0, width - 1))
    kwargs = {"family": "qwen2_vl", "answer_format": "compact", "image_size": (1, width)}
    (click,) = codec.decode(codec.encode([Click(x, 0)], **kwargs), **kwargs).clicks
    assert round(click.x) == x


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
