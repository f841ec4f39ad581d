"""Answers on their way from text to clicks."""

import re

import numpy as np
import pytest
import torch

from geoclick import codec, repeats, vlms
from geoclick.clicks import Click
from geoclick.inference.backends.constrained import pattern_of
from geoclick.inference.backends.local import Local
from geoclick.inference.generative import answering, mask_decoding
from geoclick.inference.generative.settings import Generation
from geoclick.scoring.records import CUT
from geoclick.vlms.generation.answers import MAX_NEW_TOKENS


@pytest.fixture(scope="module")
def vlm():
    return vlms.load("embedded", device="cpu")


@pytest.mark.parametrize("answer_format", codec.FORMATS)
def test_repeated_clicks_of_a_looped_answer_are_dropped_and_counted(vlm, answer_format):
    clicks = {
        "compact": ["+(500,500)", "-(100,900)", " "],
        "json": [
            '{"point_2d": [500, 500], "label": "positive"}',
            '{"point_2d": [100, 900], "label": "negative"}',
            ", ",
        ],
    }
    first, second, join = clicks[answer_format]
    around = {"compact": "{}", "json": "[{}]"}[answer_format]
    looped, once = (
        around.format(join.join(parts)) for parts in ([first] * 13 + [second] + [first], [first, second])
    )
    answers = answering.read_answers(vlm, [looped, once], [(40, 60)] * 2, answer_format=answer_format)
    assert answers[0].clicks == answers[1].clicks
    assert (answers[0].status, answers[0].dropped) == ("repaired", (repeats.REPEATED,) * 13)
    assert (answers[1].status, answers[1].dropped) == ("ok", ())


def test_clicks_of_both_signs_on_one_point_are_no_repeat(vlm):
    (answer,) = answering.read_answers(vlm, ["+(500,500) -(500,500)"], [(40, 60)], answer_format="compact")
    assert (len(answer.clicks), answer.status) == (2, "ok")


@pytest.mark.parametrize(
    ("text", "parts", "repeated"),
    [
        # A negative click may belong to several parts, a positive one to the first of them.
        ("+(100,100) -(300,300); +(500,500) -(300,300)", 2, 0),
        ("+(100,100) -(300,300); +(500,500); +(100,100)", 2, 1),
        ("+(100,100); +(500,500); +(100,100) -(700,700); +(500,500)", 2, 3),
        ("+(100,100) +(100,100); +(500,500)", 2, 1),
        ("; ".join(["+(100,100)", "+(500,500)"] * 20), 2, 38),
        ("+(100,100); +(100,100)", 1, 1),
        ("+(100,100); -(100,100); -(100,100)", 2, 1),
    ],
)
def test_repeated_parts_are_dropped_and_counted(vlm, text, parts, repeated):
    (answer,) = answering.read_answers(vlm, [text], [(400, 600)], answer_format="compact")
    assert len(answer.parts) == parts
    assert answer.dropped == (repeats.REPEATED,) * repeated
    assert answer.status == ("repaired" if repeated else "ok")
    assert answer.clicks == sum(answer.parts, ())
    assert repeats.without_repeats(answer) == answer
    assert bool(answer.objects) == (parts > 1)


@pytest.mark.parametrize("answer_format", codec.FORMATS)
def test_sixteen_parts_fit_into_an_answer(vlm, answer_format):
    frame = codec.Frame("qwen2_5_vl", answer_format, (4000, 4000), (3640, 3640))
    parts = [(Click(3990 - x, 3990), Click(3990, 3990, False)) for x in range(16)]
    text = frame.encode(parts)
    assert len(vlm.processor.tokenizer.encode(text)) < MAX_NEW_TOKENS[answer_format]
    pattern = pattern_of(frame, MAX_NEW_TOKENS[answer_format])
    assert re.fullmatch(pattern, text)
    assert len(pattern) < 600
    six = [tuple(Click(100 * part + k, 5, k == 0) for k in range(6)) for part in range(16)]
    assert re.fullmatch(frame.pattern(), frame.encode(six))
    assert not re.fullmatch(frame.pattern(), frame.encode([*six, (Click(0, 0),)]))


@pytest.mark.parametrize(
    ("limit", "text", "status", "dropped"),
    [(8, "+(500,500", "unparsable", ("truncated", CUT)), (None, "+(500,500)", "ok", ())],
)
def test_an_answer_at_the_length_limit_is_cut(vlm, monkeypatch, limit, text, status, dropped):
    def scripted(rows, tokens, scores):
        wanted = vlm.processor.tokenizer.encode("+(500,500)<|im_end|>")
        forced = torch.full_like(scores, -torch.inf)
        for row, written in zip(forced, tokens, strict=True):
            row[wanted[len(written)]] = 0
        return forced

    monkeypatch.setattr(Local, "_constrain", lambda *_: lambda chosen: scripted)
    backend = Local(vlm, Generation(answer_format="compact", max_new_tokens=limit))
    image = np.zeros((64, 64, 3), np.uint8)
    (reply,) = backend.answer([image], ["the tank"])
    assert (reply.text, reply.cut) == (text, limit is not None)
    answer = answering.whole_or_cut(backend.read(reply.text, (64, 64)), reply.cut)
    assert (answer.status, answer.dropped) == (status, dropped)


def test_an_answer_that_is_cut_between_clicks_is_no_complete_one(vlm):
    (answer,) = answering.read_answers(vlm, ["+(500,500); +(700,700)"], [(64, 64)], answer_format="compact")
    cut = answering.whole_or_cut(answer, True)
    assert (cut.status, cut.dropped, cut.parts) == ("repaired", (CUT,), answer.parts)
    assert answering.whole_or_cut(answer, False) is answer


@pytest.mark.parametrize(
    ("size", "with_vlm", "without"),
    [
        ((8, 2000), "too narrow for Qwen-VL", ""),
        ((2000, 8), "too narrow for Qwen-VL", ""),
        ((1, 4000), "too narrow for the segmenter", "too narrow for the segmenter"),
        ((8, 1600), "", ""),
        ((1, 1), "", ""),
    ],
)
def test_images_that_the_models_cannot_take(vlm, size, with_vlm, without):
    for reason, expected in (
        (Local(vlm, Generation()).refusal(size), with_vlm),
        (mask_decoding.refusal(size), without),
    ):
        assert expected in reason
        assert bool(expected) == bool(reason)
