"""No file of the packages runs code that comes out of data."""

import ast

import pytest

from tests.import_graph import FILES, called
from tests.paths import REPO


def unsafe_faults(source):
    """Calls that run code out of data."""
    faults = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "dill", "cloudpickle", "joblib"):
            faults += [
                f"from {node.module} import {a.name}" for a in node.names if a.name in ("load", "loads")
            ]
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        keywords = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
        module, _, function = name.rpartition(".")
        if module.split(".")[-1] in ("pickle", "dill", "cloudpickle", "joblib") and function in (
            "load",
            "loads",
        ):
            faults.append(name)
        if name in ("eval", "exec", "builtins.eval", "builtins.exec"):
            faults.append(name)
        if name == "torch.load" and keywords.get("weights_only") is not True:
            faults.append("torch.load without weights_only=True")
        if module == "yaml" and function in ("load", "load_all", "unsafe_load", "full_load"):
            faults.append(name)
        if keywords.get("allow_pickle"):
            faults.append("allow_pickle=True")
        # A variable could be true too.
        if "trust_remote_code" in keywords and keywords["trust_remote_code"] is not False:
            faults.append("trust_remote_code")
    return faults


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPO)))
def test_no_file_runs_code_out_of_data(path):
    assert unsafe_faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "from pickle import loads",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "eval('1')",
        "exec(code)",
        "import torch\ntorch.load(f)",
        "import torch\ntorch.load(f, weights_only=False)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=flag)",
        "import yaml\nyaml.load(f, Loader=yaml.Loader)",
    ],
)
def test_the_safety_checker_sees(source):
    assert unsafe_faults(source)


def test_the_safety_checker_allows():
    source = "torch.load(f, weights_only=True)\nmodel.eval()\nyaml.safe_load(t)\nf(trust_remote_code=False)"
    assert unsafe_faults(source) == []
