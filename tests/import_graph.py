"""Which module of the repository imports which, read from the source without running it."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.paths import REPO

ROOMS = ("data_synthesis", "train", "inference")
PACKAGES = ("geoclick", *ROOMS)
FILES = sorted(path for package in PACKAGES for path in (REPO / package).rglob("*.py"))


def module_name(path: Path) -> str:
    """The dotted name under which a file is imported: `train/sft.py` is `geoclick.train.sft`."""
    parts = path.relative_to(REPO).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(("geoclick", *parts) if parts[0] in ROOMS else parts)


def called(node: ast.Call) -> str:
    """The dotted name that a call calls, such as `torch.load`."""
    try:
        return ast.unparse(node.func)
    except RecursionError:
        return ""


def imported(tree: ast.AST) -> Iterator[str]:
    """The dotted names that a tree imports, at the top or inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and called(node).endswith(("import_module", "__import__")):
            arguments = (a.value for a in node.args[:1] if isinstance(a, ast.Constant))
            yield from (value for value in arguments if isinstance(value, str))


def resolve(name: str, modules: set[str]) -> str | None:
    """The module that an imported dotted name stands for or lies in; None for other libraries."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in modules), None)


def graph() -> dict[str, set[str]]:
    """Each module with the modules that it imports."""
    modules = {module_name(path) for path in FILES}
    edges = {}
    for path in FILES:
        names = imported(ast.parse(path.read_text(encoding="utf-8")))
        edges[module_name(path)] = {found for name in names if (found := resolve(name, modules))}
    return edges


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected groups of more than one module (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in edges.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in edges:
        if node not in index:
            visit(node)
    return sorted(found)
