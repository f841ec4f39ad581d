"""The layers of docs/architecture.md: which package may import which, and no circles, lazy imports included."""

import ast

import pytest

from tests.import_graph import FILES, PACKAGES, circles, graph, imported, module_name
from tests.paths import REPO

FORBIDDEN = {
    "geoclick": ("geoclick.data_synthesis", "geoclick.train", "geoclick.inference"),
    "data_synthesis": ("geoclick.train", "geoclick.inference"),
    "inference": ("geoclick.train", "geoclick.data_synthesis"),
    "train": (),
}
"""What the files of a folder must not import."""

FLOORS = (
    (
        "errors",
        "plain_text",
        "tasks",
        "files",
        "secrets",
        "devices",
        "clicks",
        "answer_text",
        "codec",
        "repeats",
        "prompts",
        "masks",
        "mask_overlay",
        "components",
        "instances",
        "distance",
        "images",
        "stored_rows",
        "store",
        "chat_rows",
        "contradictions",
        "weight_files",
        "model_folders",
        "recipes",
        "library_messages",
        "yaml_file",
        "option_values",
        "config",
        "output_folder",
        "progress_bar",
        "command",
    ),
    ("geo", "scoring", "jobs", "pages", "scenes"),
    ("segmenters", "vlms", "clips"),
    ("datasets",),
    ("prepare", "scenes.copies", "scenes.run"),
    (
        "backend_options",
        "options",
        "launch",
        "list_recipes",
        "demo",
        "demo_figures",
        "demo_report",
        "demo_results",
        "demo_steps",
        "cli",
    ),
)
"""The order inside `geoclick`: a module imports from its own floor and from those before it."""

FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}
MAX_LINES = 400


def name_of(path):
    return str(path.relative_to(REPO))


def forbidden_imports(source, package):
    names = imported(ast.parse(source))
    bare = ("train", "inference", "data_synthesis")
    return sorted(
        name
        for name in set(names)
        if name.split(".")[0] in bare
        or any(name == room or name.startswith(f"{room}.") for room in FORBIDDEN[package])
    )


def floor(module):
    """The floor of a module of `geoclick` by the longest name in FLOORS; None for the rooms above and the package."""
    parts = module.split(".")[1:]
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((FLOOR_OF[name] for name in names if name in FLOOR_OF), None)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_packages_import_only_what_lies_below_and_files_are_short(path):
    source = path.read_text(encoding="utf-8")
    assert forbidden_imports(source, path.relative_to(REPO).parts[0]) == []
    assert source.count("\n") <= MAX_LINES


def test_inside_geoclick_nothing_imports_a_higher_floor():
    higher = [
        f"{module} imports {target}"
        for module, targets in graph().items()
        for target in targets
        if floor(module) is not None and floor(target) is not None and floor(target) > floor(module)
    ]
    assert higher == []


def test_every_module_of_geoclick_has_a_floor():
    names = {
        module_name(path).split(".")[1] for path in FILES if path.parts[-2:] != ("geoclick", "__init__.py")
    }
    assert names - {"train", "inference", "data_synthesis", "embedded"} <= set(FLOOR_OF)


def test_no_import_circles_lazy_ones_included():
    assert circles(graph()) == []


def test_the_walk_sees_all_packages():
    assert {path.relative_to(REPO).parts[0] for path in FILES} == set(PACKAGES)
    edges = graph()
    assert "geoclick.clicks" in edges["geoclick.codec"]
    assert "geoclick.train.options.sft" in edges["geoclick.train.sft"]


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("geoclick", "import train"),
        ("geoclick", "def f():\n    from geoclick.inference.predict import run"),
        ("geoclick", "from geoclick import train"),
        ("geoclick", "import importlib\nimportlib.import_module('geoclick.data_synthesis.run')"),
        ("data_synthesis", "import geoclick.inference.reports as r"),
        ("inference", "from geoclick.data_synthesis.simulation import policies"),
        ("inference", "if True:\n    import geoclick.train.sft"),
        ("train", "from train.sft import run"),
    ],
)
def test_the_checker_reports_forbidden_imports(package, source):
    assert forbidden_imports(source, package)


def test_the_checker_accepts_allowed_imports():
    assert forbidden_imports("import geoclick.data_synthesis, geoclick.inference", "train") == []
    assert forbidden_imports("from geoclick import codec\nimport training_free", "inference") == []


def test_circles_are_reported():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []
