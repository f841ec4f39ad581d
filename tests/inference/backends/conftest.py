"""A server that is asked again without a wait."""

import pytest

from geoclick.inference.backends import sending
from tests.inference.backends.asked_server import KEY


@pytest.fixture
def quick_server(monkeypatch):
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
