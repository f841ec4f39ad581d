import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import random_models
from geoclick.clicks import Click
from geoclick.codec import FORMATS, MAX_CLICKS, Frame
from geoclick.errors import GeoClickError
from geoclick.inference.backends import constrained
from geoclick.inference.backends.constrained import Constraint, pattern_of
from geoclick.vlms import loading
from tests.paths import SHARED

QWEN = SHARED / "data" / "tokenizers"
SIZE = (480, 640)
FRAMES = [
    Frame(family, answer_format, SIZE, resized)
    for family, resized in (("qwen3_vl", None), ("qwen2_5_vl", (476, 644)), ("qwen2_5_vl", (56, 28)))
    for answer_format in FORMATS
]


@pytest.fixture(scope="module", params=["embedded", pytest.param("qwen", marks=pytest.mark.slow)])
def tokenizer(request):
    if request.param == "embedded":
        return loading.load_processor(loading.EMBEDDED).tokenizer
    if not (QWEN / "qwen.tiktoken").is_file():
        pytest.skip("Qwen's tokenizer is not there")
    return random_models.load_tokenizer(QWEN)


@pytest.fixture(scope="module")
def end(tokenizer):
    return tokenizer.convert_tokens_to_ids("<|im_end|>")


@pytest.fixture(scope="module")
def constraint(tokenizer, end):
    # Models have more scores than tokens.
    return Constraint(tokenizer, len(tokenizer) + 37, [end])


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_every_token_of_an_answer_is_allowed_and_the_end_only_after_it(constraint, tokenizer, end, frame):
    rng = np.random.default_rng(0)
    for count in (0, 1, 3, MAX_CLICKS):
        places = zip(rng.integers(0, 640, count), rng.integers(0, 480, count), strict=True)
        text = frame.encode([Click(int(x), int(y), bool(x % 2)) for x, y in places])
        tokens = tokenizer.encode(text)
        adjust = constraint.adjust([frame.pattern()])
        for number, token in enumerate([*tokens, end]):
            scores = torch.zeros(1, len(tokenizer) + 37)
            (found,) = torch.isfinite(adjust([0], [tokens[:number]], scores))
            assert found[token]
            # After a click of `compact` the answer may end, or continue with a space.
            complete = re.fullmatch(frame.pattern(), tokenizer.decode(tokens[:number]))
            assert found[end] == bool(complete)
            assert not found[len(tokenizer) :].any()


@settings(max_examples=15)
@given(st.sampled_from(FRAMES), st.integers(0, 2**32), st.integers(1, 4))
def test_noise_becomes_valid_answers(constraint, tokenizer, end, frame, seed, max_clicks):
    random = torch.Generator().manual_seed(seed)
    answers = [[], []]
    adjust = constraint.adjust([frame.pattern(max_clicks)] * 2)
    rows = [0, 1]
    for _ in range(48 * max_clicks + 2):
        scores = torch.randn(len(rows), len(tokenizer) + 37, generator=random)
        chosen = adjust(rows, [answers[row] for row in rows], scores).argmax(dim=1).tolist()
        for row, token in zip(list(rows), chosen, strict=True):
            if token == end:
                rows.remove(row)
            else:
                answers[row].append(token)
        if not rows:
            break
    assert not rows
    for tokens in answers:
        answer = frame.decode(tokenizer.decode(tokens))
        assert answer.status in ("ok", "empty")
        assert len(answer.clicks) <= max_clicks


def test_as_many_clicks_are_allowed_as_fit():
    for answer_format, per_click in constrained.TOKENS_OF_CLICK.items():
        frame = Frame("qwen3_vl", answer_format, SIZE)
        assert pattern_of(frame, 10_000) == frame.pattern(MAX_CLICKS)
        assert pattern_of(frame, 3 * per_click) == frame.pattern(3)
        assert pattern_of(frame, 1) == frame.pattern(1)


@pytest.mark.parametrize("answer_format", FORMATS)
def test_no_click_has_more_tokens_than_are_counted(tokenizer, answer_format):
    frame = Frame("qwen2_5_vl", answer_format, (4000, 4000), (4004, 4004))
    parts = [(Click(3210 + i, 3456, bool(i % 2)),) for i in range(MAX_CLICKS)]
    count = len(tokenizer.encode(frame.encode(parts))) + 1
    assert count <= MAX_CLICKS * constrained.TOKENS_OF_CLICK[answer_format]


def test_the_library_is_named_if_it_is_missing(monkeypatch):
    monkeypatch.setattr(constrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(GeoClickError, match=r"pip install 'geoclick\[constrained\]'"):
        constrained.check()


def test_a_pattern_that_cannot_be_compiled_is_an_error(constraint):
    with pytest.raises(GeoClickError, match="llguidance cannot enforce") as error:
        constraint.adjust(["(?=a)b"])
    assert "\n" not in str(error.value)
