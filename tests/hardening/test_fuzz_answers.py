"""No answer raises an error or gives a click outside the image, and the time to read one is linear in its length.

GEOCLICK_ANSWERS sets the number of answers of the slow test.
"""

import os

import pytest

from geoclick import codec
from tests.hardening import fuzz_answers

SECONDS = 10.0
"""CPU time that only an answer of 100,000 characters that is read in quadratic time takes."""

STEEPEST = 1.25
"""Largest exponent of time against length; sorting would be below it, a square far above."""


def check(count, seed):
    statuses, faults = fuzz_answers.run(count, seed)
    assert not faults, faults[:5]
    assert set(statuses) == {"ok", "repaired", "empty", "unparsable"}
    assert statuses.total() == count


def test_hostile_answers():
    check(4_000, seed=0)


@pytest.mark.slow
def test_many_hostile_answers():
    check(int(os.environ.get("GEOCLICK_ANSWERS", 1_000_000)), seed=1)


def test_a_fault_is_noticed(monkeypatch):
    def outside(text, **kwargs):
        return codec.Answer((codec.Click(-1, 0),), "ok") if "[" in text else 1 / 0

    monkeypatch.setattr(codec, "decode", outside)
    _, faults = fuzz_answers.run(200)
    assert {reason for *_, reason in faults} == {
        "a click outside the image",
        "ZeroDivisionError('division by zero')",
    }


@pytest.mark.parametrize("name", fuzz_answers.SHAPES)
def test_long_answers_are_read_at_once(name):
    for answer_format in codec.FORMATS:
        assert fuzz_answers.seconds_of(name, answer_format, 100_000) < SECONDS


@pytest.mark.slow
def test_the_time_is_linear_up_to_ten_million_characters():
    found = fuzz_answers.times()
    print("\n".join(fuzz_answers.table_of(found)))
    steep = {key: slope for key, (_, slope) in found.items() if slope > STEEPEST}
    assert not steep


def test_the_exponent_is_that_of_a_power():
    lengths = (10, 100, 1000)
    assert fuzz_answers.exponent(lengths, [n * 3e-6 for n in lengths]) == pytest.approx(1)
    assert fuzz_answers.exponent(lengths, [n * n * 1e-6 for n in lengths]) == pytest.approx(2)
