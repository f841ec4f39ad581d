"""Errors of a server: retries, waits, failed replies, and what ends a run."""

import time

import pytest

from geoclick.errors import GeoClickError
from geoclick.inference.backends import ledger
from tests.faulty_server import FaultyServer, points
from tests.inference.backends.asked_server import IMAGE, KEY, ask, backend

pytestmark = pytest.mark.usefixtures("quick_server")


@pytest.mark.parametrize(
    "fault", ["limit", "crash", "hang", "trickle", "cut", "drop", "garbage", "nested", "no-choices"]
)
def test_errors_that_pass_are_tried_again(fault):
    with FaultyServer({"": f"{fault}:1"}) as server:
        (reply,) = ask(server, "the tank", timeout=0.4)
    assert reply.text == points("the tank")
    assert server.seen["the tank"] == 2


@pytest.mark.parametrize(
    ("fault", "times", "reason"),
    [
        ("crash", 3, "internal error"),
        ("hang", 3, "no answer within 0.3 seconds"),
        ("trickle", 3, "no answer within 0.3 seconds"),
        ("cut", 3, "the connection failed"),
        ("garbage", 3, "not in the format of OpenAI's chat API"),
        ("refuse", 2, "the content is not allowed"),
        ("huge", 1, "the answer is larger than 4 MiB"),
        ("long", 1, "the answer has 100,000 characters"),
        ("huge-error", 3, "The server did not answer"),
    ],
)
def test_errors_that_stay_are_a_failed_reply_and_the_others_are_answered(tmp_path, fault, times, reason):
    with FaultyServer({"bad": fault}) as server:
        replies = ask(server, "bad", "good", timeout=0.3 if times > 2 else 5.0, retries=2, folder=tmp_path)
    assert reason in replies[0].error
    assert replies[0].text == ""
    assert replies[1].text == points("good")
    # What is refused is sent again without structured output, unless another answer has shown that it is accepted.
    assert server.seen["bad"] in ((1, times) if fault == "refuse" else (times,))
    sums = ledger.read_summary(tmp_path)
    assert (sums["answered"], sums["failed"]) == (1, 1)


@pytest.mark.parametrize("fault", ["huge-error", "huge-redirect"])
def test_no_more_than_the_beginning_of_an_error_is_read(fault):
    with FaultyServer({"bad": f"{fault}:1"}) as server:
        (reply,) = ask(server, "bad", timeout=5.0)
        # The rest is in the buffers of the connection.
        assert 0 <= server.written < 32 << 20
    assert reply.text == points("bad")


def test_all_requests_wait_as_long_as_the_server_asks():
    with FaultyServer({"first": "limit:1"}) as server:
        ask(server, "first", *(f"{i}" for i in range(6)), concurrency=1)
    waits = [later - before for before, later in zip(server.times, server.times[1:], strict=False)]
    assert waits[0] >= 0.95
    assert max(waits[1:]) < 0.5


@pytest.mark.parametrize(
    ("faults", "options", "sentence"),
    [
        ({}, {"vlm": "missing"}, "The server has no model 'missing' at this address"),
        ({"": "quota"}, {}, "The account has no credit left"),
        ({"": "long-wait"}, {}, "The server asks to wait 4,000 seconds"),
        ({"": "no-temperature"}, {"temperature": 0.5}, "The server refuses --temperature"),
        ({"": "no-effort"}, {"reasoning_effort": "low"}, "The server refuses --reasoning-effort"),
        ({"": "die"}, {"retries": 1}, "cannot be reached"),
        ({"": "uncounted"}, {"budget": 1.0, "price_input": 1.0, "price_output": 1.0}, "counts no tokens"),
    ],
)
def test_errors_of_the_run_end_it_at_once(faults, options, sentence):
    with FaultyServer(faults) as server, pytest.raises(GeoClickError, match=sentence):
        ask(server, *(f"query {i}" for i in range(40)), concurrency=2, **options)
    assert len(server.sent) <= 8


def test_a_wrong_key_ends_the_run_and_is_quoted_nowhere(tmp_path, capsys):
    with FaultyServer(key="another") as server, pytest.raises(GeoClickError) as caught:
        ask(server, "a", "b", folder=tmp_path)
    assert "The server refuses the key" in str(caught.value)
    assert "OPENAI_API_KEY" in str(caught.value)
    chain, error = [], caught.value
    while error:
        chain.append(f"{error!r}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    output = capsys.readouterr()
    assert KEY not in "".join(chain) + written + output.out + output.err
    assert KEY not in repr(backend(server))


def test_many_failures_in_a_row_end_the_run():
    with FaultyServer({"": "crash"}) as server, pytest.raises(GeoClickError, match="10 requests in a row"):
        ask(server, *(f"query {i}" for i in range(40)), retries=0)
    assert len(server.sent) < 20


def test_the_number_of_open_requests_is_limited():
    with FaultyServer({"": "slow"}) as server:
        ask(server, *(f"query {i}" for i in range(12)), concurrency=3)
    assert server.most_open == 3


def test_an_interrupt_does_not_wait_for_open_requests(monkeypatch):
    with FaultyServer({"": "hang"}) as server:
        made = backend(server, timeout=20.0)
        start = time.monotonic()
        monkeypatch.setattr("concurrent.futures.Future.result", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            made.answer([IMAGE], ["a"])
    assert time.monotonic() - start < 5


def _interrupt(future):
    raise KeyboardInterrupt
