"""Single answers of a chat API: token counts and the wait that a server asks for."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from geoclick.inference.backends import chat_api


@pytest.mark.parametrize(
    "usage", [{}, {"prompt_tokens": 5}, {"prompt_tokens": "5", "completion_tokens": 5}, [1], 3]
)
def test_strange_token_counts_do_not_lose_the_answer(usage):
    body = {"choices": [{"message": {"content": "[]"}}], "usage": usage}
    assert chat_api.read_completion(json.dumps(body).encode()) == chat_api.Completion("[]", "", None, "")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_a_server_asks_for(headers, seconds):
    assert chat_api.retry_after(headers) == seconds


def test_the_wait_may_be_a_date():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < chat_api.retry_after({"retry-after": date}) <= 60
