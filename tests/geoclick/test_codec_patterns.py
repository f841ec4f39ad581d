"""The regular expressions of answers: they match what `encode` writes, and nothing else."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoclick import codec
from tests.geoclick.codec_cases import answers, options


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
