"""The arguments about thoughts and reasoning in a request to a server."""

import numpy as np
import pytest

from geoclick.errors import GeoClickError, UsageError
from geoclick.inference.backends import openai
from geoclick.options import GenerationOptions
from tests.faulty_server import FaultyServer

IMAGE = np.zeros((40, 60, 3), np.uint8)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdefghij")


def backend(url, **options):
    return openai.load(GenerationOptions(backend="openai", vlm="tiny", base_url=url, **options))


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, None),
        ({"thinking": "on"}, True),
        ({"thinking": "off"}, False),
        ({"thinking": "server"}, None),
        ({"prompt": "trained"}, False),
        ({"prompt": "trained", "thinking": "on"}, True),
        ({"prompt": "trained", "thinking": "server"}, None),
    ],
)
def test_the_option_is_sent_to_a_server_of_ones_own_and_recorded(options, sent):
    with FaultyServer() as server:
        made = backend(server.url, **options)
        assert not made.answer([IMAGE], ["the tank"])[0].error
    (body,) = server.sent
    assert "extra_body" not in body
    assert body.get("chat_template_kwargs") == (None if sent is None else {"enable_thinking": sent})
    assert made.describe().get("thinking") == {None: None, True: "on", False: "off"}[sent]


def test_answers_with_and_without_thoughts_are_different_requests(tmp_path):
    with FaultyServer() as server:
        for thinking in ("on", "off", "server", "off"):
            options = GenerationOptions(backend="openai", vlm="tiny", base_url=server.url, thinking=thinking)
            openai.load(options, ledger=tmp_path).answer([IMAGE], ["the tank"])
    assert len(server.sent) == 3


@pytest.mark.parametrize("url", [None, "https://api.openai.com/v1"])
def test_openai_is_sent_no_argument_that_it_does_not_know(url):
    for prompt in ("zero-shot", "trained"):
        made = backend(url, prompt=prompt)
        assert "extra_body" not in made._request("data:", "the tank", 0).body
        assert "thinking" not in made.describe()
        with pytest.raises(
            UsageError, match=r"--thinking is for servers of your own; use --reasoning-effort"
        ):
            backend(url, prompt=prompt, thinking="off")


def test_a_server_without_such_arguments_is_one_sentence():
    with FaultyServer({"": "unknown-argument"}) as server:
        made = backend(server.url, prompt="trained")
        with pytest.raises(
            GeoClickError,
            match=r"takes no arguments of chat templates \(.*\); give --thinking server, and let the server",
        ):
            made.answer([IMAGE], ["the tank"])
        assert (
            not backend(server.url, prompt="trained", thinking="server")
            .answer([IMAGE], ["the tank"])[0]
            .error
        )


def test_the_reasoning_effort_is_sent_and_recorded_only_if_it_is_given():
    with FaultyServer() as server:
        plain, low = backend(server.url), backend(server.url, reasoning_effort="low")
        plain.answer([IMAGE], ["a"])
        low.answer([IMAGE], ["a"])
    assert ["reasoning_effort" in body for body in server.sent] == [False, True]
    assert server.sent[1]["reasoning_effort"] == "low"
    assert "reasoning_effort" not in plain.describe()
    assert low.describe()["reasoning_effort"] == "low"
