"""Answers on their way from text to clicks."""

import pytest

from geoclick import codec, vlms
from geoclick.inference import generative
from geoclick.inference.backends.local import Local


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
    answers = generative.read_answers(vlm, [looped, once], [(40, 60)] * 2, answer_format=answer_format)
    assert answers[0].clicks == answers[1].clicks
    assert (answers[0].status, answers[0].dropped) == ("repaired", (generative.REPEATED,) * 13)
    assert (answers[1].status, answers[1].dropped) == ("ok", ())


def test_clicks_of_both_signs_on_one_point_are_no_repeat(vlm):
    (answer,) = generative.read_answers(vlm, ["+(500,500) -(500,500)"], [(40, 60)], answer_format="compact")
    assert (len(answer.clicks), answer.status) == (2, "ok")


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
        (Local(vlm, generative.Generation()).refusal(size), with_vlm),
        (generative.refusal(size), without),
    ):
        assert expected in reason
        assert bool(expected) == bool(reason)
