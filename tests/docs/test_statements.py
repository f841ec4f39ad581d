"""What pages quote stands in the code: error sentences, figures, defaults."""

import ast
import re
from functools import cache

import pytest

from tests.docs import markdown
from tests.paths import REPO

PACKAGES = ("geoclick", "data_synthesis", "train", "inference")
LEAST = 15
"""Literal characters that a template needs to identify a sentence."""


@cache
def templates():
    """All texts of the code as regular expressions, with placeholders in place of their values."""
    found = set()
    for package in PACKAGES:
        for path in (REPO / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [
                        re.escape(value.value) if isinstance(value, ast.Constant) else ".*?"
                        for value in node.values
                    ]
                    literal = sum(
                        len(value.value) for value in node.values if isinstance(value, ast.Constant)
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    parts, literal = [re.escape(node.value)], len(node.value)
                else:
                    continue
                if literal >= LEAST:
                    found.add("".join(parts))
    return [re.compile(template) for template in found]


def sentences():
    return [block.code.strip() for block in markdown.blocks("troubleshooting.md") if block.language == "text"]


def is_printed(sentence):
    plain = sentence.removeprefix("error: ")
    return any(
        template.fullmatch(text) for text in (sentence, plain, f"error: {plain}") for template in templates()
    )


@pytest.mark.parametrize("sentence", sentences(), ids=lambda sentence: sentence[:40])
def test_the_code_prints_this_sentence(sentence):
    assert is_printed(sentence)


def test_another_sentence_would_be_seen():
    assert len(sentences()) > 30
    assert not is_printed("The adapter is too old; train it again.")


def test_the_figures_of_memory_and_time_stand_in_the_measurements():
    measured = markdown.text("measurements.md")
    for line in markdown.text("memory_and_time.md").splitlines():
        if "](measurements.md#" in line and line.startswith("|"):
            figures = re.findall(r"\d[\d,.]*\d|\d", line.rpartition(" | [")[0])
            for figure in figures:
                assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d,]*\d)", measured), (figure, line)
