"""Annotations say what a value is: the number of `Any` and `object` in them may only fall."""

import ast
from collections import Counter

import pytest

from tests.import_graph import FILES, PACKAGES
from tests.paths import REPO

ALLOWED = {"geoclick": 99, "data_synthesis": 43, "train": 100, "inference": 41}
"""How many annotations of each package contain `Any` or `object`; lower a number when its package has fewer."""


def annotations(tree):
    """All annotations of a file: parameters, return values, variables, and aliases of types."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield node.returns
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
            yield node.value


def vague(source):
    """The number of annotations that contain `Any` or `object`."""
    count = 0
    for annotation in annotations(ast.parse(source)):
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval")
        names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
        count += bool(names & {"Any", "object"})
    return count


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_no_more_vague_annotations_than_before(package):
    files = [path for path in FILES if path.relative_to(REPO).parts[0] == package]
    counts = Counter({str(path.relative_to(REPO)): vague(path.read_text(encoding="utf-8")) for path in files})
    assert counts.total() <= ALLOWED[package], counts.most_common(10)


def test_vague_annotations_are_counted():
    assert vague("def f(a: Any, b: int) -> object: ...") == 2
    assert vague("x: dict[str, Any] = {}\nAlias = dict[str, Any]") == 2
    assert vague("def f(a: 'list[Any]') -> None: ...") == 1
    assert vague("def f(a: int, b: 'Company') -> list[str]:\n    return Any") == 0
