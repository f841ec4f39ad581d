"""Texts from outside: no control characters, no half characters, not blank, not endless."""

from pathlib import Path

import pytest

from geoclick import plain_text
from geoclick.errors import GeoClickError


@pytest.mark.parametrize(
    "text", ["the roof", "das Gr\u00f6\u00dfte", "two\nlines\t", "\U0001f6f0", "\u202eright"]
)
def test_a_query(text):
    assert plain_text.query_fault(text) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("a\0", "holds a control character"),
        ("a\x1b[2J", "holds a control character"),
        ("a\x9b2J", "holds a control character"),
        ("a\ud800", "is no text in UTF-8"),
        ("a" * 10_001, "has 10,001 characters, more than 10,000"),
    ],
)
def test_no_query(text, reason):
    assert plain_text.query_fault(text) == reason


def test_a_name_is_printed_without_its_control_characters():
    with pytest.raises(GeoClickError) as error:
        plain_text.check_name(Path("a\x1b[2J.png"))
    assert str(error.value) == r"The name of 'a\x1b[2J.png' holds a control character; rename the file."
