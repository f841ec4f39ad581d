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
def texts():
    """All texts of the code: those without placeholders, and the others as regular expressions."""
    fixed, filled = set(), set()
    for package in PACKAGES:
        for path in (REPO / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    fixed.add(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
                    if sum(len(part or "") for part in parts) >= LEAST:
                        filled.add("".join(".*?" if part is None else re.escape(part) for part in parts))
    return {text for text in fixed if len(text) >= LEAST}, [re.compile(template) for template in filled]


def sentences():
    return [block.code.strip() for block in markdown.blocks("troubleshooting.md") if block.language == "text"]


def is_printed(sentence):
    plain = sentence.removeprefix("error: ")
    fixed, filled = texts()
    forms = {sentence, plain, f"error: {plain}"}
    return bool(forms & fixed) or any(template.fullmatch(form) for template in filled for form in forms)


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
