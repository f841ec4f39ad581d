"""What a server has answered: counted, paid once, and not asked again."""

import json

import pytest

from geoclick.errors import GeoClickError
from geoclick.inference.backends import ledger
from tests.faulty_server import FaultyServer, points
from tests.inference.backends.asked_server import IMAGE, ask, backend

pytestmark = pytest.mark.usefixtures("quick_server")


def test_equal_requests_are_sent_once_and_a_ledger_is_not_asked_again(tmp_path):
    queries = ["a", "b", "a"]
    with FaultyServer() as server:
        first = ask(server, *queries, folder=tmp_path)
        assert ask(server, *queries, folder=tmp_path) == first
        assert server.answered == {"a": 1, "b": 1}
        ask(server, "a", folder=tmp_path, temperature=1.0)
        assert server.answered["a"] == 2


def test_a_line_that_a_kill_cut_is_asked_again(tmp_path):
    with FaultyServer() as server:
        ask(server, "a", folder=tmp_path)
        path = next(tmp_path.glob("*.jsonl"))
        whole = path.read_bytes()
        path.write_bytes(whole[:-9])
        ask(server, "a", "b", folder=tmp_path)
    assert server.answered == {"a": 2, "b": 1}
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 2
    path.write_bytes(b"{\n" + whole)
    with pytest.raises(GeoClickError, match="is broken"):
        ask(server, "a", folder=tmp_path)


def test_costs_are_counted_and_the_budget_stops_the_run_until_it_is_raised(tmp_path):
    prices = {"price_input": 2.0, "price_output": 10.0, "concurrency": 1, "folder": tmp_path}
    queries = [f"query {i}" for i in range(6)]
    with FaultyServer() as server:
        with pytest.raises(
            GeoClickError, match=r"The budget of 0\.008 is spent: 3 requests have cost 0\.0090"
        ):
            ask(server, *queries, budget=0.008, **prices)
        assert len(server.sent) == 3
        with pytest.raises(GeoClickError, match="is spent"):
            ask(server, *queries, budget=0.008, **prices)
        assert len(server.sent) == 3
        replies = ask(server, *queries, budget=1.0, **prices)
    assert [reply.text for reply in replies] == [points(query) for query in queries]
    assert set(server.answered.values()) == {1}
    sums = ledger.read_summary(tmp_path)
    assert sums["cost"] == pytest.approx(6 * (2 * 1000 + 10 * 100) / 1e6)
    assert (sums["input_tokens"], sums["output_tokens"], sums["models"]) == (6000, 600, {"tiny-2026": 6})
    assert len(sums["dates"]) == 2


def test_every_sample_is_a_request_of_its_own_and_sent_once(tmp_path):
    with FaultyServer({"road": "refuse"}) as server:
        made = backend(server, folder=tmp_path)
        sampled = made.sample([IMAGE] * 2, ["tank", "road"], 3)
        assert (server.seen["tank"], server.seen["road"]) == (3, 3)
        assert [[bool(reply.text) for reply in own] for own in sampled] == [[True] * 3, [False] * 3]
        # A continued run with more samples asks for those only; the first sample is the answer of a run without.
        again = backend(server, folder=tmp_path)
        assert again.sample([IMAGE], ["tank"], 4)[0][:3] == sampled[0]
        assert again.answer([IMAGE], ["tank"]) == sampled[0][:1]
        assert server.seen["tank"] == 4
    bodies = [body for body in server.sent if "Target: tank" in str(body)]
    assert all(body == bodies[0] for body in bodies)


def test_answers_without_token_counts_are_counted():
    with FaultyServer({"a": "uncounted"}) as server:
        made = backend(server, price_input=1.0, price_output=1.0)
        replies = made.answer([IMAGE] * 2, ["a", "b"])
    assert all(reply.text for reply in replies)
    sums = made.sender.ledger.summary()
    assert (sums["uncounted"], sums["cost"]) == (1, pytest.approx(0.0011))
    assert "1 answers came without token counts" in "".join(ledger.lines(sums))
