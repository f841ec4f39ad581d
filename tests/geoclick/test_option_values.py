"""Numbers and texts of options: what is no number, and the ranges."""

import dataclasses

import pytest

from geoclick.config import option, parse
from geoclick.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Options:
    count: int = option(1, help="count", minimum=1)
    share: float = option(0.5, help="share", minimum=0, maximum=1)
    factor: float = option(1.0, help="factor")
    name: str = option("a", help="name")


def parsed(*words):
    return parse(Options, words, prog="test", description="", example="")


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("count", "0", "--count must be 1 or more, not 0"),
        ("count", str(2**31), "--count must be from 1 to 2147483647"),
        ("count", "9" * 5000, "count must be of type int"),
        ("count", "1_000", "count must be of type int"),
        ("count", "\u0663", "count must be of type int"),
        ("share", "1.5", "--share must be from 0 to 1, not 1.5"),
        ("share", "nan", "--share must be from 0 to 1, not nan"),
        ("factor", "nan", "--factor must be from -1000000000 to 1000000000, not nan"),
        ("factor", "-inf", "--factor must be from"),
        ("factor", "1e30", "--factor must be from"),
        ("name", " ", "--name is empty"),
        ("name", "a\x1b[31m", "name holds a control character"),
        ("name", "a\0", "name holds a control character"),
        ("name", "a\udcff", "name is no text in UTF-8"),
        ("name", "a" * 100_001, "name has 100,001 characters"),
    ],
)
def test_a_wrong_value_is_one_sentence_with_the_range(flag, value, message):
    with pytest.raises(UsageError, match=message):
        parsed(f"--{flag}={value}")


def test_the_ends_of_a_range_are_in_it():
    assert parsed("--share", "1", "--count", str(2**31 - 1), "--factor=-1e9") == Options(
        count=2**31 - 1, share=1.0, factor=-1e9
    )


@pytest.mark.parametrize("value", ["true", ".inf", "[1]", "{a: 1}", "2026-01-01"])
def test_a_value_of_a_file_that_is_no_number_is_refused(tmp_path, value):
    (tmp_path / "a.yaml").write_text(f"count: {value}")
    with pytest.raises(UsageError, match="count must be of type int"):
        parsed("--config", str(tmp_path / "a.yaml"))
