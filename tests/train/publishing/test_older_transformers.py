"""Merged models under transformers 4.57, in a virtual environment of its own with this one's other packages."""

import json
import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from geoclick.train import merge
from tests import tiny
from tests.train.adapters import random_adapter

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
VERSION = "transformers==4.57.*"


def call(interpreter, script, *arguments):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [interpreter, HERE / script, *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """The interpreter of an environment with transformers 4.57."""
    folder = tmp_path_factory.mktemp("older") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python, pip = folder / "bin" / "python", [sys.executable, "-m", "pip", "--python", folder / "bin/python"]
    command = (
        ["uv", "pip", "install", "-q", "--python", python] if shutil.which("uv") else [*pip, "install", "-q"]
    )
    done = subprocess.run([*command, VERSION], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{VERSION} cannot be installed: {done.stderr.splitlines()[-1:]}")
    packages = next(folder.glob("lib/python*/site-packages"))
    # Read after the environment's own packages: torch, torchvision, Pillow.
    (packages / "current.pth").write_text("\n".join(site.getsitepackages()))
    return python


def merged(base, folder):
    tuned = random_adapter(folder / "lora", base)
    assert merge.main([str(tuned), "--output", str(folder / "merged"), "--check-samples", "1"]) == 0
    return folder / "merged"


@pytest.fixture(scope="module")
def folders(older, tmp_path_factory):
    """Merged models by name: of bases that this version wrote, and of bases that the older version wrote."""
    root = tmp_path_factory.mktemp("models")
    models = {name: merged(make(root / name / "base"), root / name) for name, make in tiny.FOLDERS.items()}
    copies = {name: root / f"old_{name}" / "base" for name in tiny.FOLDERS}
    pairs = [path for name, folder in copies.items() for path in (models[name], folder)]
    call(older, "save_again.py", *pairs)
    models |= {folder.parent.name: merged(folder, folder.parent) for folder in copies.values()}
    return models | {"embedded": merged("embedded", root / "embedded")}


@pytest.fixture(scope="module")
def results(older, folders):
    """What both versions make of each model."""
    outputs = (call(python, "first_logits.py", *folders.values()) for python in (older, sys.executable))
    lines = ([line for line in text.splitlines() if line.startswith("{")] for text in outputs)
    return {
        name: tuple(json.loads(line) for line in pair) for name, *pair in zip(folders, *lines, strict=True)
    }


@pytest.mark.parametrize("name", [*tiny.FOLDERS, *(f"old_{name}" for name in tiny.FOLDERS), "embedded"])
def test_a_merged_model_answers_the_same_under_both_versions(results, name):
    older, current = results[name]
    np.testing.assert_allclose(older.pop("logits"), current.pop("logits"), atol=1e-4)
    assert older.pop("pixels") == pytest.approx(current.pop("pixels"), abs=1e-4)
    assert older == current
    assert (current["missing"], current["unexpected"]) == ([], [])


@pytest.mark.parametrize("name", tiny.FOLDERS)
def test_files_that_the_older_version_wrote_are_copied(folders, name):
    folder = folders[f"old_{name}"]
    for file in (
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "preprocessor_config.json",
    ):
        assert (folder / file).read_bytes() == (folder.parent / "base" / file).read_bytes()
