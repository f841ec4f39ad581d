"""Further rounds: the model sees its mask, and takes one more click or ends."""

import numpy as np
import pytest

from geoclick import mask_overlay
from geoclick.clicks import Click
from geoclick.codec import Answer, Part
from geoclick.errors import UsageError
from geoclick.inference import pipeline as pipelines
from geoclick.inference import predict
from geoclick.inference.backends import local
from geoclick.inference.generative import rounds
from geoclick.inference.generative.settings import Generation
from geoclick.vlms.generation.answers import Generated

A, B, C = Click(10, 10), Click(30, 20, False), Click(50, 30)
TILE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
MORE = {"": "+(250,250)", "+(250,250)": " -(500,500) +(900,900)", "+(250,250) -(500,500)": "; +(800,100"}
"""What the model writes after each beginning; it ends after others."""


@pytest.fixture
def asked(monkeypatch):
    """The images and beginnings that the model was asked with."""
    found = []

    def generate(vlm, images, queries, *, beginnings=None, max_new_tokens, **options):
        beginnings = beginnings or [""] * len(queries)
        found.append((images, list(beginnings), max_new_tokens))
        return [
            Generated("none" if query == "nothing" else text + MORE.get(text, ""), tokens=5)
            for query, text in zip(queries, beginnings, strict=True)
        ]

    monkeypatch.setattr(local, "generate", generate)
    return found


@pytest.fixture
def load(tiny_segmenter, vlm_folder):
    def pipeline(count):
        generation = Generation(answer_format="compact", rounds=count)
        return pipelines.load(str(vlm_folder), device="cpu", generation=generation)

    return pipeline


def test_each_round_shows_the_mask_and_takes_one_click(load, asked):
    one, nothing = load(2).predict_batch([TILE, TILE], ["the tank", "nothing"])
    (_, first, _), (images, beginnings, limit) = asked
    assert (first, beginnings) == (["", ""], ["+(250,250)"])
    assert limit < 20
    before = load(1).predict(TILE, "the tank")
    assert (images[0] == mask_overlay.draw(TILE, before.mask)).all()
    assert one.text == "+(250,250) -(500,500)"
    assert [click.positive for click in one.clicks] == [True, False]
    assert one.tokens == 10
    assert (nothing.status, nothing.clicks) == ("empty", ())


def test_an_answer_that_ends_is_not_asked_again(load, asked):
    answer = load(9).predict(TILE, "the tank")
    # The third text has a click that is cut off, so that the answer ends.
    assert [begin for _, begin, _ in asked[1:]] == [["+(250,250)"], ["+(250,250) -(500,500)"]]
    assert answer.text == "+(250,250) -(500,500)"


def test_rounds_are_recorded_only_if_there_are_several():
    assert Generation(rounds=3).describe() == {"rounds": 3}
    assert Generation().describe() == {}


@pytest.mark.parametrize(
    ("own", "parts", "expected"),
    [
        (((A,),), ((A,),), ()),
        (((A,),), ((A, B, C),), ((A, B),)),
        (((A,),), ((A,), (B, C)), ((A,), (B,))),
        (((A, B),), ((A, B, C), (A,)), ((A, B, C),)),
        (((A,), (B,)), ((A,), (B, C)), ((A,), (B, C))),
        (((A, B),), (), ()),
    ],
)
def test_the_next_click_is_in_the_last_part_or_a_further_one(own, parts, expected):
    flat = tuple(click for part in parts for click in part)
    answer = Answer(flat, "ok", objects=tuple(map(Part, parts)) if len(parts) > 1 else ())
    assert rounds.next_parts(own, answer) == expected


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--samples", "3", "--temperature", "1"], "--rounds does not go with --samples"),
        (["--backend", "vllm", "--vlm", "v"], "--rounds goes with --backend local; remove it"),
    ],
)
def test_options_that_do_not_fit(words, error, tmp_path, capsys):
    words = ["tile.png", "--text", "tank", "--rounds", "2", "--output", str(tmp_path), *words]
    assert predict.main(words) == UsageError.exit_code
    assert error in capsys.readouterr().err
