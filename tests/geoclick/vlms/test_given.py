"""Given beginnings of answers: they are the same tokens whatever follows, and belong to the prompt."""

from collections import Counter
from dataclasses import replace

import pytest

from geoclick import chat_rows, store
from geoclick.chat_rows import ChatRow
from geoclick.clicks import Click
from geoclick.codec import Frame
from geoclick.vlms import given
from geoclick.vlms.loading import EMBEDDED, load_processor
from tests import tiny

CLICKS = tuple(Click(10 * n, 7 * n, n % 2 == 0) for n in range(1, 6))
FRAMES = [Frame("qwen3_vl", name, (100, 120)) for name in ("compact", "json")]


@pytest.fixture(scope="module")
def processor():
    return load_processor(EMBEDDED, min_pixels=None, max_pixels=None)


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    return next(store.read(tiny.click_store(tmp_path_factory.mktemp("data"), rows=2, side=100)[0]))


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.answer_format)
@pytest.mark.parametrize("parts", [(5,), (2, 3), (1, 1, 3)])
@pytest.mark.parametrize("count", [0, 1, 2, 4, 5])
def test_tokens_of_prompt_and_answer_are_those_without_given_clicks(processor, row, frame, parts, count):
    one = replace(row, clicks=CLICKS, parts=parts, ious=(0.5,) * 5, given=count)
    chosen = [ChatRow(one, one.sequences), ChatRow(replace(one, given=0), one.sequences)]
    moved, plain = given.encode_rows(processor, chosen, [frame] * 2)
    assert moved.prompt_ids + moved.completion_ids == plain.prompt_ids + plain.completion_ids
    text = processor.tokenizer.decode(moved.prompt_ids[len(plain.prompt_ids) :])
    beginning = frame.beginning(one.sequences, count)
    # All but the last token, which tells what follows.
    assert beginning.startswith(text)
    assert len(beginning) - len(text) <= 2
    taught = processor.tokenizer.decode(moved.completion_ids)
    assert taught.count("label") + taught.count("+(") + taught.count("-(") == 5 - count


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.answer_format)
def test_given_tokens_do_not_depend_on_what_follows(processor, frame):
    beginning = frame.beginning(CLICKS, 2)
    tokens = given.given_tokens(processor, beginning, frame.answer_format)
    for answer in (CLICKS[:2], CLICKS, CLICKS[:3]):
        ids = processor.tokenizer(frame.encode(answer), add_special_tokens=False)["input_ids"]
        assert ids[: len(tokens)] == tokens
    assert given.given_tokens(processor, "", frame.answer_format) == []


def test_an_answer_that_ends_with_its_given_clicks_teaches_its_end(processor, row):
    one = replace(row, clicks=CLICKS[:1], parts=(1,), ious=(0.5,), given=1)
    (example,) = given.encode_rows(processor, [ChatRow(one, one.sequences)], FRAMES[:1])
    text = processor.tokenizer.decode(example.completion_ids)
    # With the closing bracket, if the tokenizer joins it with a semicolon.
    assert text.lstrip(")") == "<|im_end|>"
    assert len(example.completion_ids) <= 2


def test_usable_rows_carry_their_given_clicks(row):
    one = replace(row, clicks=CLICKS, parts=(5,), ious=(0.5,) * 5, given=2)
    (usable,) = chat_rows.usable([one], max_clicks=6, min_iou=0, left_out=Counter())
    assert (usable.given, len(usable.clicks)) == (2, 2)
